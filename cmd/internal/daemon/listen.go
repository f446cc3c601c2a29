package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketMode  = 0o600
	socketPath  = len(unix.RawSockaddrUnix{}.Path) - 1 // longest path: one byte ends it
	dialTimeout = time.Second
)

// ListenUnix listens on a unix socket that only its owner can open (0600 from the first instant, whatever the umask).
// A socket left behind by a dead process is removed; where a live one answers, the error is ErrRunning. Anything else
// at that path is left alone and is an error. Closing the listener removes the socket.
//
// Looking, removing and binding happen under a lock on the directory, so of two that start at once one wins.
func ListenUnix(path string) (net.Listener, error) {
	if err := fits(path); err != nil {
		return nil, err
	}
	unlock, err := LockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return bind(path)
}

// fits says whether the kernel takes a path as that of a socket.
func fits(path string) error {
	if len(path) <= socketPath {
		return nil
	}
	return &socketError{errPathTooLong, fmt.Sprintf("%v: %s has %d bytes, the kernel takes %d: choose a shorter directory",
		errPathTooLong, path, len(path), socketPath), exitFailed}
}

// removeStale removes the socket at path if no process answers on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen on %s: something that is not a socket is there: move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case err == nil:
		defer conn.Close()
		return &socketError{ErrRunning, fmt.Sprintf("%v%s: it answers on %s", ErrRunning, pid(conn), path), exitFailed}
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, syscall.EAGAIN): // its queue is full: busy, hence alive
		return &socketError{ErrRunning, fmt.Sprintf("%v: %s is busy", ErrRunning, path), exitFailed}
	}
	return explain(path, err)
}

// pid is " (pid 42)" of the process that listens at the other end, where the kernel tells it.
func pid(conn net.Conn) string {
	if peer, err := credentials(conn); err == nil && peer.Pid > 0 {
		return fmt.Sprintf(" (pid %d)", peer.Pid)
	}
	return ""
}

// bind makes the socket. Linux gives the file the mode of the descriptor less the umask, so the mode set before bind
// holds from the start; a umask that takes more is made up for afterwards.
func bind(path string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		outer := c.Control(func(fd uintptr) { inner = unix.Fchmod(int(fd), socketMode) })
		return errors.Join(outer, inner)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // socket.Close does, after checking that it is still ours
	made, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, socketMode)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &socket{Listener: l, path: path, made: made}, nil
}

// socket is a listener that removes its own socket when it is closed, and no other's.
type socket struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
}

// Close ends listening and removes the socket, unless another process has put its own there since.
func (s *socket) Close() error {
	s.once.Do(func() {
		unlock, err := LockDir(filepath.Dir(s.path))
		if err == nil {
			defer unlock()
		}
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.made) {
			os.Remove(s.path)
		}
	})
	return s.Listener.Close()
}
