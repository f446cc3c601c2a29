package main

import (
	"os"
	"os/exec"

	"ssmnet/cmd/internal/cli"
)

// service is the systemd unit that runs the SSM of this host.
const service = "ssmnet-ssm"

// Tests put their own here.
var (
	serviceDir  = defaultDir            // whose SSM the unit runs
	systemdRuns = "/run/systemd/system" // sd_booted(3)
)

// serviceEnabled says that systemd starts the SSM of this directory, though none runs now.
func serviceEnabled(c *cli.Context) bool {
	if _, err := os.Stat(systemdRuns); err != nil || cli.Dir(c) != serviceDir {
		return false
	}
	return exec.CommandContext(c.Context, "systemctl", "--quiet", "is-enabled", service).Run() == nil
}
