package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"ssmnet/cmd/internal/daemon"
)

// maxBody bounds a request and an answer, in bytes.
const maxBody = 1 << 16

// Handler serves a relay to a Client:
//
//	GET /        Status
//	PUT /WAY     Settings, whole: what is not named does nothing; 400 and a line of text where they are refused
func Handler(r *Relay) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.Status()) // an error means that the client has gone
	})
	mux.HandleFunc("PUT /{way}", func(w http.ResponseWriter, req *http.Request) {
		var s Settings
		d := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
		d.DisallowUnknownFields()
		err := d.Decode(&s)
		if err == nil {
			err = r.Set(Way(req.PathValue("way")), s)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// Client speaks to a Handler on a unix socket.
type Client struct{ http *http.Client }

// NewClient makes one. It connects when it is used.
func NewClient(socket string) *Client { return &Client{daemon.Client(socket)} }

// Set is Relay.Set.
func (c *Client) Set(ctx context.Context, w Way, s Settings) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, http.MethodPut, "/"+string(w), body)
	return err
}

// Status is Relay.Status.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	answer, err := c.call(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(answer, &s); err != nil {
		return s, fmt.Errorf("relay: status: %w", err)
	}
	return s, nil
}

func (c *Client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://relay"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("relay: %s %s: %s", method, path, strings.TrimSpace(string(answer)))
	}
	return answer, err
}

// Close lets go of the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }
