package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"ssmnet/tunssm"
)

// PingTimeout bounds one echo, acquiring a session included: an acquisition that fails ends before, and says why.
const PingTimeout = 6 * time.Second

// Operations are what the API answers out of: *tunssm.SSM, and a fake in tests.
type Operations interface {
	Status() (tunssm.Status, error)
	Ping(ctx context.Context, peer string) (time.Duration, error)
	Rekey(peer string) error
	CloseSession(peer string) error
	Reroute() error
}

// pong is the answer to a ping.
type pong struct {
	Micros float64 `json:"micros"`
}

// handler answers requests out of an SSM. Each method is one line of the table in the package's doc.
type handler struct {
	ssm Operations
	end func()
}

// Handler serves the API of s; down ends the SSM. Whoever can reach it may do everything: serve it on a socket of the
// owner's alone.
func Handler(s Operations, down func()) http.Handler {
	h := handler{s, down}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", h.status)
	mux.HandleFunc("POST /v1/ping/{peer}", h.ping)
	mux.HandleFunc("POST /v1/sessions/{peer}/rekey", h.session(h.ssm.Rekey))
	mux.HandleFunc("POST /v1/sessions/{peer}/close", h.session(h.ssm.CloseSession))
	mux.HandleFunc("POST /v1/reroute", h.reroute)
	mux.HandleFunc("POST /v1/down", h.down)
	mux.Handle("GET /metrics", metricsHandler(h.ssm))
	return mux
}

func (h handler) status(w http.ResponseWriter, _ *http.Request) {
	st, err := h.ssm.Status()
	reply(w, filled(st), err)
}

func (h handler) ping(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), PingTimeout)
	defer cancel()
	took, err := h.ssm.Ping(ctx, r.PathValue("peer"))
	reply(w, pong{float64(took) / float64(time.Microsecond)}, err)
}

// session is the endpoint of a command about the session with one peer.
func (handler) session(command func(peer string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { reply(w, struct{}{}, command(r.PathValue("peer"))) }
}

func (h handler) reroute(w http.ResponseWriter, _ *http.Request) {
	reply(w, struct{}{}, h.ssm.Reroute())
}

func (h handler) down(w http.ResponseWriter, _ *http.Request) {
	reply(w, struct{}{}, nil)
	_ = http.NewResponseController(w).Flush() // or the answer would wait for the SSM to end
	h.end()
}

// filled is st, with no list or map that is null in JSON.
func filled(st tunssm.Status) tunssm.Status {
	st.Addresses, st.Subnets = list(st.Addresses), list(st.Subnets)
	st.KDCs, st.Routes, st.Gateway, st.Sessions = list(st.KDCs), list(st.Routes), list(st.Gateway), list(st.Sessions)
	for i, s := range st.Sessions {
		st.Sessions[i].Prefixes, st.Sessions[i].Selectors = list(s.Prefixes), list(s.Selectors)
	}
	for i, s := range st.Gateway {
		st.Gateway[i].Interfaces, st.Gateway[i].Warnings = list(s.Interfaces), list(s.Warnings)
	}
	if st.Drops == nil {
		st.Drops = map[string]uint64{}
	}
	return st
}

// list is s, and never null in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// reply sends the answer or the error as JSON. A client that has gone is nobody's to tell.
func reply(w http.ResponseWriter, answer any, err error) {
	status := http.StatusOK
	if err != nil {
		status, answer = describe(err)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer does not encode"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b)
}
