package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"unicode"
)

// Exit codes: the contract with whatever drives the programs.
const (
	Done        = 0 // done
	Failed      = 1 // failed
	Usage       = 2 // the command line is wrong
	Unreachable = 3 // daemon or KDC not reachable
	Denied      = 4 // denied by policy
	NotFound    = 5 // no such peer, session, revision, ...
	Conflict    = 6 // conflict or stale revision
	TestsFailed = 7 // the policy's own tests failed
	TimedOut    = 8 // timed out
	Changes     = 9 // plan found changes
)

// Error is an error with an exit code. Message is one line: what failed, on what, and what to do about it.
type Error struct {
	Code    int
	Message string
	Err     error // what it wraps, if anything
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives what the error was made from.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the code the program ends with. Any error with this method decides its own (see Code).
func (e *Error) ExitCode() int { return e.Code }

// Errorf makes an error with an exit code; %w wraps as in fmt.Errorf.
func Errorf(code int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Failedf reports work that failed (exit 1).
func Failedf(format string, args ...any) error { return Errorf(Failed, format, args...) }

// Usagef reports a wrong command line (exit 2).
func Usagef(format string, args ...any) error { return Errorf(Usage, format, args...) }

// Unreachablef reports that the daemon or the KDC does not answer (exit 3).
func Unreachablef(format string, args ...any) error { return Errorf(Unreachable, format, args...) }

// Deniedf reports the policy's no (exit 4).
func Deniedf(format string, args ...any) error { return Errorf(Denied, format, args...) }

// NotFoundf reports that what was named does not exist (exit 5).
func NotFoundf(format string, args ...any) error { return Errorf(NotFound, format, args...) }

// Conflictf reports that what was asked collides with what is there, or with a newer revision (exit 6).
func Conflictf(format string, args ...any) error { return Errorf(Conflict, format, args...) }

// TimedOutf reports that a deadline passed (exit 8).
func TimedOutf(format string, args ...any) error { return Errorf(TimedOut, format, args...) }

// Quiet ends the program with a code and says nothing: the result already on standard output is the answer.
func Quiet(code int) error { return &Error{Code: code} }

// Code is the exit code of an action's error: its own where it has an ExitCode method, 8 for a deadline that passed,
// else 1.
func Code(err error) int {
	var coder interface{ ExitCode() int }
	switch {
	case err == nil:
		return Done
	case errors.As(err, &coder):
		return coder.ExitCode()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	}
	return Failed
}

// line is the one line an error is printed as. What net/http puts in front of an error (the method and a URL nobody
// typed) is left out, and control characters become "?", so that no message from elsewhere writes to the terminal. A user
// who is not root and may not do it is told how.
func line(err error, user int) string {
	if u, ok := err.(*url.Error); ok {
		err = u.Err
	}
	denied := user != 0 && errors.Is(err, fs.ErrPermission)
	const hint = "run with sudo"
	text := oneLine(err.Error(), '?')
	if denied && !strings.Contains(text, hint) {
		text += ": " + hint
	}
	return text
}

// oneLine makes of each line break of s, as between joined errors, a "; ", and replaces the other control characters.
func oneLine(s string, with rune) string {
	var parts []string
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, printable(part, with))
		}
	}
	return strings.Join(parts, "; ")
}

// printable replaces every control character of s, and what is not UTF-8.
func printable(s string, with rune) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return with
		}
		return r
	}, s)
}
