package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the process that Start starts.
func TestMain(m *testing.M) {
	if what := os.Getenv("SSMNET_TEST_CHILD"); what != "" {
		os.Exit(child(what))
	}
	os.Exit(m.Run())
}

// child reports, on standard output, what a background process got from its parent.
func child(what string) int {
	switch what {
	case "harden":
		warnings := Harden()
		var core unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_CORE, &core)
		fmt.Printf("core %d %v, %d warnings\n", core.Cur, err, len(warnings))
		return 0
	case "sleep":
		select {}
	case "confined":
		return confined()
	case "ask":
		return ask(os.Getenv("SSMNET_TEST_SOCKET"))
	case "connect":
		return connect(os.Getenv("SSMNET_TEST_SOCKET"))
	}
	dir, _ := os.Getwd()
	session, _ := unix.Getsid(0)
	fmt.Printf("args %q dir %s leads %t\n", os.Args[1:], dir, session == os.Getpid())
	for fd := range 40 {
		to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		runtimes := strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/sys/fs/cgroup/") // Go's own
		if err == nil && !runtimes {
			fmt.Fprintf(os.Stderr, "fd %d %s\n", fd, filepath.Base(to))
		}
	}
	return 3
}

// start starts a child and gives its pid and its log.
func start(t *testing.T, what string, args ...string) (pid int, log string) {
	t.Helper()
	t.Setenv("SSMNET_TEST_CHILD", what)
	log = filepath.Join(t.TempDir(), "child.log")
	if err := os.WriteFile(log, []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pid, err := Start(os.Args[0], args, log)
	if err != nil {
		t.Fatal(err)
	}
	return pid, log
}

// waitExit waits for a child and says how it ended.
func waitExit(t *testing.T, pid int) (how string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := WaitReady(ctx, func(context.Context) (err error) {
		var ended bool
		if how, ended = Exited(pid); !ended {
			err = errors.New("it runs")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return how
}

func TestStart(t *testing.T) {
	// A descriptor as a careless shell leaves it: open, and inherited across exec.
	leak, err := unix.Open(filepath.Join(t.TempDir(), "leaked"), unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	pid, log := start(t, "report", "one", "two words")
	if how := waitExit(t, pid); how != "exit status 3" {
		t.Errorf("ended with %q", how)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\nargs [\"one\" \"two words\"] dir / leads true\nfd 0 null\nfd 1 child.log\nfd 2 child.log\n"
	if string(text) != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log: %v %v", info.Mode(), err)
	}
}

func TestExited(t *testing.T) {
	pid, _ := start(t, "sleep")
	if how, ended := Exited(pid); ended {
		t.Fatalf("a running child has ended: %s", how)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if how := waitExit(t, pid); how != "signal: killed" {
		t.Errorf("ended with %q", how)
	}
	if _, ended := Exited(pid); !ended {
		t.Error("a child that is gone runs")
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Start(filepath.Join(dir, "absent"), nil, filepath.Join(dir, "log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	if _, err := Start(os.Args[0], nil, filepath.Join(dir, "absent/log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log directory: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(os.Args[0], nil, link); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("the log is a symbolic link: %v", err)
	}
}

func TestHarden(t *testing.T) {
	pid, log := start(t, "harden")
	how := waitExit(t, pid)
	text, err := os.ReadFile(log)
	if err != nil || how != "exit status 0" || !strings.HasPrefix(string(text), "before\ncore 0 <nil>, ") {
		t.Errorf("%s, %v: %s", how, err, text)
	}
}

func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@ssmnet-test-%d", os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		t.Setenv("NOTIFY_SOCKET", name)
		for _, state := range []string{Ready, Ready + "\nSTATUS=3 peers", Stopping, Reloading()} {
			if err := notify(state); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 256)
			if n, _, err := l.ReadFrom(b); err != nil || string(b[:n]) != state {
				t.Errorf("got %q %v, want %q", b[:n], err, state)
			}
		}
	}
	if !strings.HasPrefix(Reloading(), "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("reloading is %q", Reloading())
	}
	for _, bad := range []string{"relative", filepath.Join(t.TempDir(), "absent")} {
		t.Setenv("NOTIFY_SOCKET", bad)
		if err := notify(Ready); err == nil || !strings.HasPrefix(err.Error(), "notify: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify(Ready); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
}

func TestSignalContext(t *testing.T) {
	codes := make(chan int, 1)
	exit := func(code int) { codes <- code }
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ctx, stop := signalContext(exit)
		if ctx.Err() != nil {
			t.Fatal("cancelled before any signal")
		}
		for range 2 {
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				t.Fatal(err)
			}
			<-ctx.Done() // the first signal has been taken before the second is sent
		}
		if code := <-codes; code != 128+int(s) {
			t.Errorf("%v twice: exit %d", s, code)
		}
		stop()
		stop()
	}
	ctx, stop := signalContext(exit)
	stop()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("stop does not cancel")
	}
}

func TestWaitReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notYet, dead := errors.New("no welcome yet"), errors.New("it died")
		begin, asked := time.Now(), 0
		err := WaitReady(t.Context(), func(context.Context) error {
			if asked++; asked < 5 {
				return notYet
			}
			return nil
		})
		if want := (2 + 4 + 8 + 16) * time.Millisecond; err != nil || asked != 5 || time.Since(begin) != want {
			t.Errorf("ready: %v after %d in %v, want %v", err, asked, time.Since(begin), want)
		}
		err = WaitReady(t.Context(), func(context.Context) error { return fmt.Errorf("up: %w", GiveUp(dead)) })
		if err != dead {
			t.Errorf("gave up: %v", err)
		}
		begin = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		err = WaitReady(ctx, func(context.Context) error { return notYet })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, notYet) || time.Since(begin) != 15*time.Second {
			t.Errorf("too late: %v after %v", err, time.Since(begin))
		}
		err = WaitReady(ctx, func(ctx context.Context) error { return ctx.Err() })
		if err != context.DeadlineExceeded {
			t.Errorf("its own deadline: %v", err)
		}
	})
}

func TestClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sock")
	notRunning := func(when string) {
		t.Helper()
		_, err := Client(path).Get("http://ssm/status")
		var coder interface{ ExitCode() int }
		if !errors.Is(err, ErrNotRunning) || !errors.As(err, &coder) || coder.ExitCode() != 3 {
			t.Errorf("%s: %v", when, err)
		}
	}
	notRunning("nothing there")
	stale(t, path)
	notRunning("left behind by a dead one")

	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	defer server.Close()
	go server.Serve(l)
	client := Client(path)
	defer client.CloseIdleConnections()
	for url, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/cmdline": 200,
		"/": 404, "/debug/vars": 404,
	} {
		r, err := client.Get("http://ssm" + url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != want || err != nil || len(body) == 0 {
			t.Errorf("%s: %d, %d bytes, %v", url, r.StatusCode, len(body), err)
		}
	}
}

func TestExplain(t *testing.T) {
	other := errors.New("other")
	tests := []struct {
		err, is error
		text    string
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENOENT)}, ErrNotRunning,
			"the daemon is not running: nothing listens on /d.sock"},
		{syscall.ENOTDIR, ErrNotRunning, "the daemon is not running: nothing listens on /d.sock"},
		{syscall.ECONNREFUSED, ErrNotRunning, "the daemon is not running: nothing listens on /d.sock"},
		{os.NewSyscallError("connect", syscall.EACCES), fs.ErrPermission, "permission denied on /d.sock"},
		{explain("/first", syscall.EPERM), fs.ErrPermission, "permission denied on /first"},
		{other, other, "other"},
	}
	for _, test := range tests {
		if err := explain("/d.sock", test.err); !errors.Is(err, test.is) || err.Error() != test.text {
			t.Errorf("%v: %v", test.err, err)
		}
	}
	if err := explain("/d.sock", nil); err != nil {
		t.Error(err)
	}
}

func TestKeepDescriptors(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	if err := keepDescriptors(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range pipe {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags != unix.FD_CLOEXEC {
			t.Errorf("descriptor %d: flags %d, %v", fd, flags, err)
		}
		unix.Close(fd)
	}
}
