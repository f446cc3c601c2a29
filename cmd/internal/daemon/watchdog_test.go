package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// manager is a service manager that listens to this process; next gives what it hears within limit.
func manager(t *testing.T) (next func(limit time.Duration) (string, error)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func(limit time.Duration) (string, error) {
		b := make([]byte, 256)
		l.SetReadDeadline(time.Now().Add(limit))
		n, err := l.Read(b)
		return string(b[:n]), err
	}
}

// TestWatchdog: it hears of a daemon that answers, and nothing of one that fails or hangs.
func TestWatchdog(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "40000")
	const every, long = 20 * time.Millisecond, 20 * time.Second
	answers := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watchdog(ctx, func() (string, error) { return "3 sessions", <-answers }, slog.New(slog.DiscardHandler))
	}()
	for range 3 {
		answers <- nil
		if told, err := next(long); told != "WATCHDOG=1\nSTATUS=3 sessions" || err != nil {
			t.Errorf("told %q, %v", told, err)
		}
	}
	answers <- errors.New("it has ended")
	if told, err := next(5 * every); err == nil { // the next question hangs
		t.Errorf("told %q of a daemon that fails and hangs", told)
	}
	cancel()
	answers <- nil
	<-ended
}

// TestNoWatchdog: nobody waits for this process.
func TestNoWatchdog(t *testing.T) {
	next := manager(t)
	for _, env := range []struct{ pid, usec string }{{"", ""}, {"", "0"}, {"", "-1"}, {"", "x"}, {"1", "1000"}} {
		t.Setenv("WATCHDOG_PID", env.pid)
		t.Setenv("WATCHDOG_USEC", env.usec)
		Watchdog(t.Context(), func() (string, error) { return "", nil }, slog.New(slog.DiscardHandler))
	}
	if told, err := next(time.Millisecond); err == nil {
		t.Errorf("told %q", told)
	}
}

func TestSupervised(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("INVOCATION_ID", "")
	if Supervised() {
		t.Error("supervised by nobody")
	}
	t.Setenv("INVOCATION_ID", "5d0c4e0c") // a shell of a systemd session has it too
	if Supervised() {
		t.Error("supervised without a socket to report to")
	}
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	if !Supervised() {
		t.Error("not supervised")
	}
}
