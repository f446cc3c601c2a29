package netns

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

// strangeGroup is one that nobody is in. The kernel gives a process's files in /proc to the process's user and group
// where it may be dumped and traced, and else to root (proc_pid(5)): of root's processes, the group tells.
const strangeGroup = 54321

// TestHardened: neither program leaves its memory to a core file or a debugger, however it was started.
func TestHardened(t *testing.T) {
	n := newOverlay(t, 1)
	a, k := n.Hosts[0], n.KDC
	a.SSM(t, "down")
	k.Stop(t, syscall.SIGTERM)

	start := func(h *Host, command ...string) (pid int) {
		as := []string{"setpriv", "--regid", strconv.Itoa(strangeGroup), "--clear-groups", "prlimit", "--core=unlimited"}
		return h.Start(t, append(as, command...)...).cmd.Process.Pid
	}
	serve := start(k.Host, program("kdc"), "--dir", k.dir, "serve")
	run := start(a, program("ssm"), "--dir", a.dir, "run")
	eventually(t, started, "both serve", func() error {
		if r := a.TrySSM(t, "status", "--check", "ready"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
	control := start(n.Bridge, "sleep", "60")
	eventually(t, started, "what is not hardened can be told", func() error {
		if !dumpable(t, control) || !cores(t, control) {
			return errors.New("it looks hardened")
		}
		return nil
	})
	for name, pid := range map[string]int{"kdc serve": serve, "ssm run": run} {
		if dumpable(t, pid) {
			t.Errorf("%s can be dumped and traced", name)
		}
		if cores(t, pid) {
			t.Errorf("%s may leave a core file", name)
		}
	}
}

func dumpable(t *testing.T, pid int) bool {
	t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid == strangeGroup
}

// cores says whether a core file may be of any size, now or after the process has raised its limit.
func cores(t *testing.T, pid int) bool {
	t.Helper()
	limits := read(t, fmt.Sprintf("/proc/%d/limits", pid))
	return !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits)
}
