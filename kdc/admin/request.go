package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"ssmnet/kdc"
	"ssmnet/packet/control"
)

// maxBody bounds the JSON of a request, in bytes.
const maxBody = 64 << 10

// request is a request that remembers where its answer goes, which http.MaxBytesReader wants to know.
type request struct {
	*http.Request
	w http.ResponseWriter
}

// endpoint answers one kind of request: with a value that is sent as JSON, or with an error.
type endpoint func(*request) (any, error)

// ServeHTTP makes an endpoint an http.Handler.
func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := e(&request{r, w})
	if err != nil {
		status, f := describe(err)
		reply(w, status, f)
		return
	}
	reply(w, http.StatusOK, answer)
}

// reply sends value as JSON. A client that has gone is nobody's to tell.
func reply(w http.ResponseWriter, status int, value any) {
	b, err := json.Marshal(value)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer does not encode"}`)
	}
	defer clear(b) // an enrolment carries a key
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b)
}

// body reads the whole body, at most limit bytes.
func (r *request) body(limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("%w: at most %d bytes are read", errTooLarge, limit)
	case err != nil:
		return nil, invalid("the body ends early: %v", err)
	}
	return b, nil
}

// decode reads the body as exactly one JSON value without unknown fields.
func (r *request) decode(to any) error {
	b, err := r.body(maxBody)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return invalid("malformed request: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("malformed request: something follows the JSON value")
	}
	return nil
}

// query gives the parameters of the URL, all of which must be among known and stand there once.
func (r *request) query(known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("malformed query: %v", err)
	}
	for key, values := range q {
		if !slices.Contains(known, key) {
			return nil, invalid("unknown parameter %q", key)
		}
		if len(values) > 1 {
			return nil, invalid("parameter %q is repeated", key)
		}
	}
	return q, nil
}

// sessionFilter reads a filter out of the query.
func (r *request) sessionFilter() (f kdc.SessionFilter, err error) {
	q, err := r.query("id", "peer", "pair_a", "pair_b")
	if err != nil {
		return f, err
	}
	f = kdc.SessionFilter{Peer: q.Get("peer"), PairA: q.Get("pair_a"), PairB: q.Get("pair_b")}
	if q.Has("id") {
		if f.ID, err = control.ParseSessionID(q.Get("id")); err != nil {
			return f, invalid("id: %v", err)
		}
	}
	return f, nil
}

// invalid is an error that wraps kdc.ErrInvalid and reads as its own text.
func invalid(format string, args ...any) error {
	return &told{message: fmt.Sprintf(format, args...), wrapped: []error{kdc.ErrInvalid}}
}
