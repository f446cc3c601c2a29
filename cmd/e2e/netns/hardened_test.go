package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// strangeGroup is one that nobody is in. The kernel gives a process's files in /proc to the process's user and group
// where it may be dumped and traced, and else to root (proc_pid(5)): of root's processes, the group tells.
const strangeGroup = 54321

// TestHardened: neither program leaves its memory to a core file or a debugger, however it was started. Here they are, as
// by a hardened unit, with no more capabilities than the SSM keeps.
func TestHardened(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 1)
	a, k := n.Hosts[0], n.KDC
	a.SSM(t, "down")
	k.Stop(t, syscall.SIGTERM)

	start := func(h *Host, command ...string) (pid int) {
		as := append(alike, "--regid", strconv.Itoa(strangeGroup), "--clear-groups", "prlimit", "--core=unlimited")
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
	for name, pid := range map[string]int{"kdc serve": serve, "ssm run": run, "": unprivileged(t, n.Bridge)} {
		if got := n.Bridge.Try(t, append(alike, "cat", fmt.Sprintf("/proc/%d/environ", pid))...); (got.Code == 0) != (name == "") {
			t.Errorf("a process of the same user, without privilege over others, reads the memory of %q: %v", name, got)
		}
	}
}

// alike makes a command one of the same user, and of no fewer capabilities than either daemon: what stands between them
// is then the mark that forbids to be traced, and not privilege.
var alike = slices.Clip([]string{"setpriv", "--bounding-set=-all,+net_admin"})

// unprivileged is the pid of a process without that mark.
func unprivileged(t *testing.T, h *Host) (pid int) {
	t.Helper()
	pid = h.Start(t, append(alike, "sleep", "60")...).cmd.Process.Pid
	eventually(t, started, "it runs", func() error {
		if name := string(read(t, fmt.Sprintf("/proc/%d/comm", pid))); name != "sleep\n" {
			return errors.New(name)
		}
		return nil
	})
	return pid
}

// TestNoCore: no signal makes either program leave its memory in a file, where others, told alike, do.
func TestNoCore(t *testing.T) {
	t.Parallel()
	pattern := strings.TrimSpace(string(read(t, "/proc/sys/kernel/core_pattern")))
	n := newOverlay(t, 1)
	a, k := n.Hosts[0], n.KDC
	a.SSM(t, "down")
	k.Stop(t, syscall.SIGTERM)
	for _, s := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGQUIT} {
		for _, program := range []struct {
			host    *Host
			command []string
			ready   []string
			leaves  bool
		}{
			{k.Host, []string{program("kdc"), "--dir", k.dir, "serve"}, []string{program("kdc"), "--dir", k.dir, "status"}, false},
			{a, []string{program("ssm"), "--dir", a.dir, "run"}, []string{program("ssm"), "--dir", a.dir, "status"}, false},
			{n.Bridge, []string{"sleep", "60"}, []string{"true"}, true},
		} {
			dir := t.TempDir()
			as := []string{"prlimit", "--core=unlimited", "env", "-C", dir, "GOTRACEBACK=crash"}
			p := program.host.Start(t, append(as, program.command...)...)
			eventually(t, started, "it serves", func() error {
				name := string(read(t, fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid)))
				if r := program.host.Try(t, program.ready...); r.Code != 0 || name != filepath.Base(program.command[0])+"\n" {
					return fmt.Errorf("%s: %v", name, r)
				}
				return nil
			})
			p.End(t, s)
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			// Where the machine sends core files elsewhere there is nothing to be found.
			if elsewhere := strings.ContainsAny(pattern, "|/"); (len(left) > 0) != (program.leaves && !elsewhere) {
				t.Errorf("%v, after %v: left %v", program.command, s, left)
			}
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
