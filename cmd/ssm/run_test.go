package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

// life is a module whose Run ends when it is told to, and notes whether the socket was still there then.
type life struct {
	fake
	welcomed atomic.Bool
	hangs    atomic.Bool // it does not answer while it runs
	hung     chan struct{}
	socket   string
	fail     chan error
	putBack  chan bool // whether the socket was there when Run was about to return
}

func (l *life) Status() (tunssm.Status, error) {
	if l.hangs.Load() {
		<-l.hung
	}
	return tunssm.Status{Name: "ana", Ready: l.welcomed.Load()}, nil
}

func (l *life) Run(ctx context.Context) (err error) {
	select {
	case <-ctx.Done():
	case err = <-l.fail:
	}
	_, gone := os.Lstat(l.socket)
	l.putBack <- gone == nil
	return err
}

// serving runs serve on a module until the test ends it.
type serving struct {
	*life
	cancel context.CancelFunc
	socket net.Listener
	ended  chan error
}

func startServing(t *testing.T, log io.Writer) *serving {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	path := filepath.Join(t.TempDir(), socketName)
	socket, err := daemon.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := &serving{
		life:   &life{hung: make(chan struct{}), socket: path, fail: make(chan error, 1), putBack: make(chan bool, 1)},
		cancel: cancel, socket: socket, ended: make(chan error, 1),
	}
	go func() { s.ended <- serve(ctx, s.life, socket, daemon.NewLog(log, slog.LevelInfo)) }()
	return s
}

// end waits for serve to end, with the socket there until everything was put back and gone now.
func (s *serving) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		if !<-s.putBack {
			t.Error("the socket had gone before everything was put back")
		}
		if _, err := os.Lstat(s.life.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("serve has not ended")
		return nil
	}
}

func (s *serving) client(t *testing.T) *admin.Client {
	h := daemon.Client(s.life.socket)
	t.Cleanup(h.CloseIdleConnections)
	return admin.NewClient(h)
}

func TestServeEndsWithItsContext(t *testing.T) {
	s := startServing(t, io.Discard)
	if _, err := s.client(t).Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.cancel()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
}

func TestDownEndsServe(t *testing.T) {
	s := startServing(t, io.Discard)
	if err := s.client(t).Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.end(t); err != nil {
		t.Error(err)
	}
}

// TestServeTellsWhyItFailed: the interface or the socket goes away.
func TestServeTellsWhyItFailed(t *testing.T) {
	s := startServing(t, io.Discard)
	gone := errors.New("the interface is gone")
	s.fail <- gone
	if err := s.end(t); err != gone {
		t.Errorf("error %v, want %v", err, gone)
	}
}

func TestServeEndsWithoutItsSocket(t *testing.T) {
	s := startServing(t, io.Discard)
	if _, err := s.client(t).Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.socket.Close()
	err := <-s.ended
	<-s.putBack
	if err == nil || !strings.HasPrefix(err.Error(), "admin socket: ") || !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v, want that of the admin socket", err)
	}
}

// notifications makes this process one of a service manager, and gives what it tells within a limit.
func notifications(t *testing.T) (next func(limit time.Duration) (string, error)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func(limit time.Duration) (string, error) {
		b := make([]byte, 256)
		manager.SetReadDeadline(time.Now().Add(limit))
		n, err := manager.Read(b)
		return string(b[:n]), err
	}
}

// TestWatchdog: the service manager hears how an SSM is that works, and nothing of one that hangs.
func TestWatchdog(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "40000")
	told := notifications(t)
	s := startServing(t, io.Discard)
	const waiting = "WATCHDOG=1\nSTATUS=no KDC has welcomed this host yet"
	for range 3 {
		if state, err := told(20 * time.Second); state != waiting {
			t.Errorf("told %q (%v), want %q", state, err, waiting)
		}
	}
	s.hangs.Store(true)
	var err error
	for err == nil { // what was under way
		_, err = told(200 * time.Millisecond)
	}
	s.hangs.Store(false)
	close(s.hung)
	if state, err := told(20 * time.Second); state != waiting {
		t.Errorf("told %q (%v) when it goes on, want %q", state, err, waiting)
	}
	s.cancel()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
}

// TestServiceManager: READY once a KDC has welcomed us and not before, STOPPING before the end.
func TestServiceManager(t *testing.T) {
	states := notifications(t)
	s := startServing(t, io.Discard)
	if state, err := states(50 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("told %q (%v) before a KDC's welcome", state, err)
	}
	s.welcomed.Store(true)
	if state, err := states(10 * time.Second); state != daemon.Ready {
		t.Errorf("told %q (%v), want %q", state, err, daemon.Ready)
	}
	s.cancel()
	if state, err := states(10 * time.Second); state != daemon.Stopping {
		t.Errorf("told %q (%v), want %q", state, err, daemon.Stopping)
	}
	if err := s.end(t); err != nil {
		t.Error(err)
	}
}

// TestHangup: SIGHUP, which would end the process, reads the log level again; a faulty file and a flag keep it.
func TestHangup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ssm.toml")
	for _, tt := range []struct{ flags, text, log string }{
		{"", `log_level = "debug"`, "level=DEBUG msg=\"read log_level again; other settings are read at the next start\" log_level=DEBUG"},
		{"", `log_level = "error"`, "level=ERROR msg=\"read log_level again; other settings are read at the next start\" log_level=ERROR"},
		{"", `log_level = "loud"`, "level=ERROR msg=\"the log level was not read again\" error=\"" + file + ":1:13: log_level = loud: want debug"},
		{"--log-level=warn", `log_level = "debug"`, "log_level=WARN"},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, w := io.Pipe()
		app := program()
		app.Commands = []*cli.Command{{Name: "run", Flags: settingsFlags(), Action: func(c *cli.Context) error {
			var level slog.LevelVar
			stop := onHangup(func() { relevel(c, &level, daemon.NewLog(w, &level)) })
			defer stop()
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				return err
			}
			line := make([]byte, 512)
			n, err := r.Read(line)
			if text := string(line[:n]); !strings.Contains(text, tt.log) {
				t.Errorf("%s: log %q, want %q", tt.text, text, tt.log)
			}
			return err
		}}}
		args := append([]string{"ssm", "run", "--config", file}, strings.Fields(tt.flags)...)
		if code := cli.Run(app, args, strings.NewReader(""), io.Discard, os.Stderr); code != cli.Done {
			t.Errorf("exit %d", code)
		}
	}
}

// TestServiceManagerThatIsGone is one line in the log and stops nothing.
func TestServiceManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	var log strings.Builder
	s := startServing(t, &log)
	s.cancel()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN msg=\"notify: ") {
		t.Errorf("log %q", text)
	}
}

// TestGlance: the line of `systemctl status`.
func TestGlance(t *testing.T) {
	up, _ := (&fake{}).Status()
	waiting, _ := (&fake{waiting: true}).Status()
	alone := up
	alone.KDCs = up.KDCs[:1]
	for _, tt := range []struct {
		st   tunssm.Status
		want string
	}{
		{up, "ana on tun0, KDC 192.0.2.2:7600, 3 sessions"},
		{alone, "ana on tun0, KDC none is connected, 3 sessions"},
		{waiting, "192.0.2.1:7600: connection refused"},
	} {
		if got := glance(tt.st); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
