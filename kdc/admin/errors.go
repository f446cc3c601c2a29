package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"ssmnet/kdc"
	"ssmnet/policy"
)

// errTooLarge: the body of a request is longer than the API reads.
var errTooLarge = errors.New("request too large")

// outcomes are the errors that cross the socket as themselves. Codes are part of the API: append only.
var outcomes = []struct {
	code   string
	status int
	err    error
}{
	{"not_found", http.StatusNotFound, kdc.ErrNotFound},
	{"conflict", http.StatusConflict, kdc.ErrConflict},
	{"invalid", http.StatusBadRequest, kdc.ErrInvalid},
	{"faulty_policy", http.StatusUnprocessableEntity, kdc.ErrPolicy},
	{"not_serving", http.StatusServiceUnavailable, kdc.ErrNotServing},
	{"too_large", http.StatusRequestEntityTooLarge, errTooLarge},
	{"too_many", http.StatusTooManyRequests, kdc.ErrTooMany},
	{"detached", http.StatusServiceUnavailable, kdc.ErrDetached},
	{"timed_out", http.StatusGatewayTimeout, context.DeadlineExceeded},
}

// failure is the body of an answer that is an error.
type failure struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Faults  []fault `json:"faults,omitempty"`
}

// fault is a policy.Error.
type fault struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

// describe turns an error into what is sent for it.
func describe(err error) (status int, f failure) {
	status, f = http.StatusInternalServerError, failure{Code: "internal", Message: err.Error()}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			status, f.Code = o.status, o.code
			break
		}
	}
	var faults policy.Errors
	if errors.As(err, &faults) {
		for _, e := range faults {
			f.Faults = append(f.Faults, fault(e))
		}
	}
	return status, f
}

// told is an error as it crosses the socket: its own text, the sentinel that its code stands for, and the faults of a
// policy as policy.Errors.
type told struct {
	message string
	wrapped []error
}

func (e *told) Error() string   { return e.message }
func (e *told) Unwrap() []error { return e.wrapped }

// restore is the other way of describe. An answer that is not of this API names its status.
func restore(status string, body []byte) error {
	var f failure
	if json.Unmarshal(body, &f) != nil || f.Code == "" {
		return fmt.Errorf("the KDC answered %q: is it of another version than this program?", status)
	}
	e := &told{message: f.Message}
	for _, o := range outcomes {
		if o.code == f.Code {
			e.wrapped = append(e.wrapped, o.err)
		}
	}
	if len(f.Faults) > 0 {
		faults := make(policy.Errors, len(f.Faults))
		for i, one := range f.Faults {
			faults[i] = policy.Error(one)
		}
		e.wrapped = append(e.wrapped, faults)
	}
	return e
}
