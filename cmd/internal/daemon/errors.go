package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

var (
	// ErrRunning reports that a live process already listens on the socket.
	ErrRunning = errors.New("another one is running")
	// ErrNotRunning reports that nothing listens on the socket.
	ErrNotRunning = errors.New("the daemon is not running")
	// ErrLocked reports a directory whose lock another process keeps.
	ErrLocked = errors.New("another process has locked the directory")
	// errForeign reports a state directory that only privilege over other users' files would open.
	errForeign = errors.New("not our own directory")
	// errPathTooLong reports a socket path longer than the kernel's sockaddr_un.
	errPathTooLong = errors.New("socket path too long")
)

// Explained says that an error is about a socket that could not be had, and tells a person all there is to say.
func Explained(err error) bool { return errors.As(err, new(*socketError)) }

// socketError is an error about a socket, with the exit code it ends a program with.
type socketError struct {
	err  error // one of the sentinels
	text string
	code int
}

func (e *socketError) Error() string { return e.text }
func (e *socketError) Unwrap() error { return e.err }
func (e *socketError) ExitCode() int { return e.code }

const (
	exitFailed      = 1
	exitUnreachable = 3
)

// explain turns the failure to reach a daemon's socket into one a person can act on: ErrNotRunning (exit code 3) where
// nothing listens there, fs.ErrPermission where this user may not. Any other error comes back as it is.
func explain(socket string, err error) error {
	var known *socketError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ECONNREFUSED):
		return &socketError{ErrNotRunning, fmt.Sprintf("%v: nothing listens on %s", ErrNotRunning, socket), exitUnreachable}
	case errors.Is(err, fs.ErrPermission):
		return &socketError{fs.ErrPermission, fmt.Sprintf("%v on %s", fs.ErrPermission, socket), exitFailed}
	}
	return err
}
