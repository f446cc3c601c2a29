package main

import (
	"os"
	"os/exec"

	"ssmnet/cmd/internal/cli"
)

// service is the systemd unit that runs the SSM of this host.
const service = "ssmnet-ssm"

// systemd is the service manager of a host.
type systemd struct {
	dir    string // state directory whose SSM its unit runs
	booted string // directory that is there where it runs: sd_booted(3)
}

// starts says that the SSM of this directory is systemd's to start, though none runs now.
func (s systemd) starts(c *cli.Context) bool {
	if _, err := os.Stat(s.booted); err != nil || cli.Dir(c) != s.dir {
		return false
	}
	return exec.CommandContext(c.Context, "systemctl", "--quiet", "is-enabled", service).Run() == nil
}
