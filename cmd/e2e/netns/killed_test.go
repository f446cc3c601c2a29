package netns

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon is the pid of the SSM on the host, where nothing else runs.
func (h *Host) daemon(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("ip", "netns", "pids", h.space).Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatalf("want one process on %s: %v", h.Name, err)
	}
	return pid
}

// kill ends the SSM on the host without a chance to put anything back, and waits until it is gone.
func (h *Host) kill(t *testing.T) {
	t.Helper()
	pid := h.daemon(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, started, "the SSM is gone", func() error {
		if out := h.Run(t, "ip", "-o", "link", "show", "type", "tun"); out != "" {
			return errors.New(out)
		}
		return nil
	})
}

// TestKilledSSM: an SSM that was killed leaves what the kernel keeps for it to nobody, and the next starts as if it had
// gone by itself. The other side of its sessions, which cannot know, is told by the KDC.
func TestKilledSSM(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	f := startFlow(t, a, b, 7000)
	id := settled(t, a, b)
	b.kill(t)
	refuses(t, b.TrySSM(t, "status"), 3, "not running")
	began := time.Now()
	succeeds(t, b.TrySSM(t, "up"), "up: h2 on tun0")
	f.runs(t)
	t.Logf("the flow runs again %v after the new SSM began", time.Since(began).Round(time.Millisecond))
	if now := settled(t, a, b); now == id {
		t.Error("the session has outlived its key")
	}

	f.end()
	b.SSM(t, "down")
	b.leavesNothing(t, func() {
		b.SSM(t, "up")
		b.kill(t)
		succeeds(t, b.TrySSM(t, "down"), "not up")
		b.SSM(t, "up")
		b.SSM(t, "down")
	})
}
