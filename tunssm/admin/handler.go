package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"ssmnet/tunssm"
)

// PingTimeout bounds one echo, acquiring a session included.
const PingTimeout = 5 * time.Second

// Operations are what the API answers out of: *tunssm.SSM, and a fake in tests.
type Operations interface {
	Status() (tunssm.Status, error)
	Ping(ctx context.Context, peer string) (time.Duration, error)
}

// pong is the answer to a ping.
type pong struct {
	Micros float64 `json:"micros"`
}

// Handler serves the API of s; down ends the SSM. Whoever can reach it may do everything: serve it on a socket of the
// owner's alone.
func Handler(s Operations, down func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		st, err := s.Status()
		reply(w, st, err)
	})
	mux.HandleFunc("POST /v1/ping/{peer}", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), PingTimeout)
		defer cancel()
		took, err := s.Ping(ctx, r.PathValue("peer"))
		reply(w, pong{float64(took) / float64(time.Microsecond)}, err)
	})
	mux.HandleFunc("POST /v1/down", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, nil)
		down()
	})
	return mux
}

// reply sends the answer or the error as JSON. A client that has gone is nobody's to tell.
func reply(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	if err != nil {
		status, answer = describe(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}
