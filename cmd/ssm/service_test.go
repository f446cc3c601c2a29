package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ssmnet/cmd/internal/cli"
)

// TestSystemdStarts: where systemd starts this directory's SSM, up leaves it to systemctl, and nowhere else.
func TestSystemdStarts(t *testing.T) {
	dir, programs := t.TempDir(), t.TempDir()
	systemctl := func(exit string) {
		script := "#!/bin/sh\n[ \"$*\" = '--quiet is-enabled ssmnet-ssm' ] && exit " + exit + "\nexit 9\n"
		if err := os.WriteFile(filepath.Join(programs, "systemctl"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	up := func(host systemd) (code int, told string) {
		var out, errs strings.Builder
		code = cli.Run(cli.New("ssm", "", dirEnv, defaultDir, upCommand(host)), []string{"ssm", "--dir", dir, "up"}, strings.NewReader(""), &out, &errs)
		return code, errs.String()
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	const asks, enrols = "systemd runs the SSM of this host: start it with 'systemctl start ssmnet-ssm'\n", "this host is not enrolled"
	for _, tt := range []struct{ exit, dir, runs, want string }{
		{"0", dir, dir, asks},
		{"1", dir, dir, enrols},
		{"0", "/elsewhere", dir, enrols},
		{"0", dir, filepath.Join(dir, "absent"), enrols},
	} {
		systemctl(tt.exit)
		if code, told := up(systemd{tt.dir, tt.runs}); code != cli.Failed || !strings.Contains(told, tt.want) {
			t.Errorf("%q: exit %d, %q", tt, code, told)
		}
	}
}
