package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ssmnet/cmd/internal/cli"
)

// TestServiceEnabled: where systemd starts this directory's SSM, up leaves it to systemctl, and nowhere else.
func TestServiceEnabled(t *testing.T) {
	dir, programs := t.TempDir(), t.TempDir()
	systemctl := func(exit string) {
		script := "#!/bin/sh\n[ \"$*\" = '--quiet is-enabled ssmnet-ssm' ] && exit " + exit + "\nexit 9\n"
		if err := os.WriteFile(filepath.Join(programs, "systemctl"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	up := func() (code int, told string) {
		var out, errs strings.Builder
		code = cli.Run(program(), []string{"ssm", "--dir", dir, "up"}, strings.NewReader(""), &out, &errs)
		return code, errs.String()
	}
	defer func(dir, runs string) { serviceDir, systemdRuns = dir, runs }(serviceDir, systemdRuns)
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	const asks, enrols = "systemd runs the SSM of this host: start it with 'systemctl start ssmnet-ssm'\n", "this host is not enrolled"
	for _, tt := range []struct{ exit, dir, runs, want string }{
		{"0", dir, dir, asks},
		{"1", dir, dir, enrols},
		{"0", "/elsewhere", dir, enrols},
		{"0", dir, filepath.Join(dir, "absent"), enrols},
	} {
		systemctl(tt.exit)
		serviceDir, systemdRuns = tt.dir, tt.runs
		if code, told := up(); code != cli.Failed || !strings.Contains(told, tt.want) {
			t.Errorf("%q: exit %d, %q", tt, code, told)
		}
	}
}
