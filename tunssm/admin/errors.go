package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"ssmnet/packet/control"
	"ssmnet/tunssm"
)

// The KDC's no, as an operator's program tells it apart.
var (
	ErrDenied  = errors.New("denied by policy")
	ErrUnknown = errors.New("no such peer")
	ErrOffline = errors.New("not reachable")
)

// outcomes are the errors that cross the socket as themselves. Codes are part of the API: append only.
var outcomes = []struct {
	code   string
	status int
	err    error
}{
	{"denied", http.StatusForbidden, ErrDenied},
	{"unknown", http.StatusNotFound, ErrUnknown},
	{"offline", http.StatusBadGateway, ErrOffline},
	{"no_session", http.StatusNotFound, tunssm.ErrNotFound},
	{"query", http.StatusBadRequest, tunssm.ErrQuery},
	{"not_ready", http.StatusServiceUnavailable, tunssm.ErrNotReady},
	{"ended", http.StatusServiceUnavailable, tunssm.ErrEnded},
	{"timed_out", http.StatusGatewayTimeout, context.DeadlineExceeded},
}

// outcome is what the KDC's reason amounts to; another error is its own.
func outcome(err error) error {
	var refused *tunssm.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Reason {
	case control.Denied, control.Suspended, control.Refused:
		return ErrDenied
	case control.Unknown:
		return ErrUnknown
	}
	return ErrOffline
}

// failure is the body of an answer that is an error.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// describe turns an error into what is sent for it: its own text, and the code of what it amounts to.
func describe(err error) (int, failure) {
	amount := outcome(err)
	for _, o := range outcomes {
		if errors.Is(amount, o.err) {
			return o.status, failure{o.code, err.Error()}
		}
	}
	return http.StatusInternalServerError, failure{"internal", err.Error()}
}

// told is an error as it crosses the socket: its own text and the sentinel that its code stands for.
type told struct {
	message string
	err     error
}

func (e *told) Error() string { return e.message }
func (e *told) Unwrap() error { return e.err }

// restore is the other way of describe.
func restore(status string, body []byte) error {
	var f failure
	if json.Unmarshal(body, &f) != nil || f.Code == "" {
		return fmt.Errorf("the SSM answered %q: is it of another version than this program?", status)
	}
	e := &told{message: f.Message}
	for _, o := range outcomes {
		if o.code == f.Code {
			e.err = o.err
		}
	}
	return e
}
