package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ssmnet/cmd/e2e/space"
	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/script"
)

// The scripts run this very binary as ssm, and as an SSM without interface and network (fake_test.go), each as whoever
// they will.
func TestMain(m *testing.M) {
	programs := map[string]func(){"ssm": main, "fakessm": fakeSSM}
	if programs[filepath.Base(os.Args[0])] == nil {
	}
	testscript.Main(space.Tests{M: m}, programs)
}

// TestScripts runs testdata/*.txtar. Each script has a state directory of its own, in $SSMNET_SSM_DIR. None makes an
// interface.
func TestScripts(t *testing.T) {
	commands := script.Commands(dirEnv, answers)
	maps.Copy(commands, map[string]script.Command{"token": writeToken, "identity": writeIdentity, "kdc": serveKDC})
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv(dirEnv, filepath.Join(e.WorkDir, "ssm"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // under -race each program would end a second late
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands,
		Condition:           space.Condition,
	})
}

// answers is nil where an SSM does on dir.
func answers(ctx context.Context, dir string) error {
	_, err := clientAt(dir).Status(ctx)
	return err
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
