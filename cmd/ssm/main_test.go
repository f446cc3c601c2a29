package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ssmnet/cmd/e2e/space"
	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm/admin"
)

// The scripts run this very binary as ssm, and as an SSM without interface and network (fake_test.go).
func TestMain(m *testing.M) {
	space.BeRoot()
	testscript.Main(m, map[string]func(){"ssm": main, "fakessm": fakeSSM})
}

// TestScripts runs testdata/*.txtar. Each script has a state directory of its own, in $SSMNET_SSM_DIR. None needs a
// privilege or makes an interface.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv(dirEnv, filepath.Join(e.WorkDir, "ssm"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // under -race each program would end a second late
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"stderris": stderrIs,
			"ready":    ready,
			"mode":     mode,
			"holds":    holds,
			"token":    writeToken,
			"identity": writeIdentity,
			"kdc":      serveKDC,
			"taken":    takePort,
			"signal":   sendSignal,
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

// stderrIs LINE compares all of the last command's standard error, one line; $NAME in it is a variable of the script.
func stderrIs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stderris LINE")
	}
	if got, want := ts.ReadFile("stderr"), os.Expand(args[0], ts.Getenv)+"\n"; got != want {
		ts.Fatalf("standard error is\n%swant\n%s", got, want)
	}
}

// ready waits until the SSM of $SSMNET_SSM_DIR answers.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	socket := filepath.Join(ts.Getenv(dirEnv), socketName)
	ts.Check(daemon.WaitReady(ctx, func(ctx context.Context) error {
		_, err := admin.NewClient(daemon.Client(socket)).Status(ctx)
		return err
	}))
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

// holds DIR NAME... checks that these and no other files are in a directory.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if neg || !slices.Equal(got, slices.Sorted(slices.Values(args[1:]))) {
		ts.Fatalf("%s holds %q, want %q", args[0], got, args[1:])
	}
}

// takePort NAME takes a UDP port of all addresses until the script ends; $NAME becomes its number.
func takePort(ts *testscript.TestScript, neg bool, args []string) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{})
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	ts.Setenv(args[0], strconv.Itoa(conn.LocalAddr().(*net.UDPAddr).Port))
}

// signal TERM|KILL sends the signal to the process that was last started in the background.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	s, known := map[string]os.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[strings.Join(args, " ")]
	background := ts.BackgroundCmds()
	if neg || !known || len(background) == 0 {
		ts.Fatalf("usage: signal TERM|KILL, with a process in the background")
	}
	ts.Check(background[len(background)-1].Process.Signal(s))
}

// TestCommandTree checks that every command has a usage and examples that parse, and every flag a usage.
func TestCommandTree(t *testing.T) {
	for _, problem := range cli.Check(program()) {
		t.Error(problem)
	}
}

// TestHelpOfEveryCommand: --help succeeds on standard output, with the command line and its examples.
func TestHelpOfEveryCommand(t *testing.T) {
	cli.Walk(program(), func(path []string, c *cli.Command) {
		var out, errs strings.Builder
		code := cli.Run(program(), append(slices.Clone(path), "--help"), strings.NewReader(""), &out, &errs)
		name := strings.Join(path, " ")
		if code != cli.Done || errs.Len() > 0 || !strings.HasPrefix(out.String(), name+" - "+c.Usage+"\n") {
			t.Errorf("%s --help: exit code %d, standard error %q, standard output %q", name, code, errs.String(), out.String())
		}
		for _, example := range cli.Examples(c.Description) {
			if !strings.Contains(out.String(), "  "+example+"\n") {
				t.Errorf("%s --help lacks the example %q", name, example)
			}
		}
	})
}
