package main

import (
	"context"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ssmnet/cmd/e2e/space"
	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/cmd/internal/script"
	"ssmnet/kdc/admin"
)

// The scripts run this very binary as kdc, and as a KDC that has sessions without any SSM (fake_test.go).
func TestMain(m *testing.M) {
	testscript.Main(space.Tests{M: m}, map[string]func(){"kdc": main, "fakekdc": fakeKDC})
}

// TestScripts runs testdata/*.txtar. Each script has a state directory of its own, in $SSMNET_KDC_DIR.
func TestScripts(t *testing.T) {
	commands := script.Commands(dirEnv, answers)
	maps.Copy(commands, map[string]script.Command{"notified": notified, "watched": watched})
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv(dirEnv, filepath.Join(e.WorkDir, "kdc"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each of some hundred runs lasts a second under -race
			return manage(e)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands,
		Condition:           space.Condition,
	})
}

// answers is nil where a KDC does on dir.
func answers(ctx context.Context, dir string) error {
	_, err := admin.NewClient(daemon.Client(filepath.Join(dir, socketName))).Status(ctx)
	return err
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

// TestCommandTree checks that every command has a usage and examples that parse, and every flag a usage.
func TestCommandTree(t *testing.T) {
	for _, problem := range cli.Check(program()) {
		t.Error(problem)
	}
}
