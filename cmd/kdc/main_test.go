package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/kdc/admin"
)

// The scripts run this very binary as kdc, and as a KDC that has sessions without any SSM (fake_test.go).
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kdc": main, "fakekdc": fakeKDC})
}

// TestScripts runs testdata/*.txtar. Each script has a state directory of its own, in $SSMNET_KDC_DIR.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv(dirEnv, filepath.Join(e.WorkDir, "kdc"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each of some hundred runs lasts a second under -race
			return manage(e)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"stderris": stderrIs,
			"ready":    ready,
			"mode":     mode,
			"truncate": truncate,
			"grow":     truncate,
			"listen":   listen,
			"signal":   sendSignal,
			"notified": notified, "watched": watched,
		},
	})
}

// exits CODE COMMAND ARG... runs a command that must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// stderrIs LINE... compares all of the last command's standard error; $NAME in a line is a variable of the script.
func stderrIs(ts *testscript.TestScript, neg bool, args []string) {
	var want strings.Builder
	for _, line := range args {
		want.WriteString(os.Expand(line, ts.Getenv) + "\n")
	}
	if got := ts.ReadFile("stderr"); neg || got != want.String() {
		ts.Fatalf("standard error is\n%swant\n%s", got, want.String())
	}
}

// ready waits until the KDC of $SSMNET_KDC_DIR, or of the directory named, answers; "! ready" until it is gone.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.Getenv(dirEnv)
	if len(args) == 1 {
		dir = ts.MkAbs(args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	socket := filepath.Join(dir, socketName)
	ts.Check(daemon.WaitReady(ctx, func(ctx context.Context) error {
		_, err := admin.NewClient(daemon.Client(socket)).Status(ctx)
		switch {
		case !neg:
			return err
		case err == nil:
			return errors.New("it still answers")
		}
		return nil
	}))
}

// serviceManager is the key under which a script has the socket that it plays systemd on.
type serviceManager struct{}

// manage gives a script the socket notify.sock; a KDC uses it where NOTIFY_SOCKET names it.
func manage(e *testscript.Env) error {
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(e.WorkDir, "notify.sock"), Net: "unixgram"})
	if err != nil {
		return err
	}
	e.Values[serviceManager{}] = l
	e.Defer(func() { l.Close() })
	return nil
}

// notified STATE... waits for these notifications, in this order (sd_notify(3)).
func notified(ts *testscript.TestScript, neg bool, args []string) {
	l := ts.Value(serviceManager{}).(*net.UnixConn)
	ts.Check(l.SetReadDeadline(time.Now().Add(20 * time.Second)))
	buf := make([]byte, 4096)
	for _, want := range args {
		n, err := l.Read(buf)
		ts.Check(err)
		if got, _, _ := strings.Cut(string(buf[:n]), "\n"); neg || got != want {
			ts.Fatalf("notified of %q, want %q", got, want)
		}
	}
}

// watched STATUS waits until a KDC has told its watchdog that it lives, and how.
func watched(ts *testscript.TestScript, neg bool, args []string) {
	l := ts.Value(serviceManager{}).(*net.UnixConn)
	ts.Check(l.SetReadDeadline(time.Now().Add(20 * time.Second)))
	buf := make([]byte, 4096)
	for {
		n, err := l.Read(buf)
		ts.Check(err)
		if got := string(buf[:n]); !neg && got == "WATCHDOG=1\nSTATUS="+args[0] {
			return
		}
	}
}

// signal TERM|HUP sends the signal to the process that was last started in the background.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	s, known := map[string]os.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}[strings.Join(args, " ")]
	background := ts.BackgroundCmds()
	if neg || !known || len(background) == 0 {
		ts.Fatalf("usage: signal TERM|HUP, with a process in the background")
	}
	ts.Check(background[len(background)-1].Process.Signal(s))
}

// mode MODE FILE checks a file's permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if neg || info.Mode().Perm() != os.FileMode(want) {
		ts.Fatalf("%s has mode %o, want %o", args[1], info.Mode().Perm(), want)
	}
}

// truncate SIZE FILE cuts a file to that many bytes; grow SIZE FILE makes one of that many.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[1]), os.O_WRONLY|os.O_CREATE, 0o600)
	ts.Check(err)
	ts.Check(errors.Join(f.Truncate(size), f.Close()))
}

// TestCommandTree checks that every command has a usage and examples that parse, and every flag a usage.
func TestCommandTree(t *testing.T) {
	for _, problem := range cli.Check(program()) {
		t.Error(problem)
	}
}
