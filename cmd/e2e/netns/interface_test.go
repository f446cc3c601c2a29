package netns

import (
	"errors"
	"testing"
	"time"
)

// TestInterfaceUpAgain: taking the interface down is told as what is amiss, and once it is up again both families work.
func TestInterfaceUpAgain(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "icmp"))
	a, b := n.Hosts[0], n.Hosts[1]
	a.Run(t, "ping", "-c1", "-W10", b.V4.String())
	a.Run(t, "ip", "link", "set", "tun0", "down")
	eventually(t, started, "the SSM notices", func() error {
		if r := a.TrySSM(t, "status", "--check", "ready"); r.Code == 0 {
			return errors.New(r.String())
		}
		return nil
	})
	refuses(t, a.TrySSM(t, "status", "--check", "ready"), 3, "not ready", "ip link set tun0 up")
	a.Run(t, "ip", "link", "set", "tun0", "up")
	eventually(t, started, "the SSM puts back what was lost", func() error {
		if r := a.TrySSM(t, "status", "--check", "ready"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
	a.Run(t, "ping", "-c1", "-W10", b.V4.String())
	a.Run(t, "ping", "-6", "-c1", "-W10", b.V6.String())
}

// TestUpConflict: a network of the host that the overlay would take is a matter of moments, not of up's whole timeout, and
// nothing is left running that could not heal.
func TestUpConflict(t *testing.T) {
	t.Parallel()
	_, h := newEnrolled(t)
	h.Run(t, "ip", "link", "add", "br9", "type", "bridge")
	h.Run(t, "ip", "addr", "add", "100.81.0.1/16", "dev", "br9")
	h.Run(t, "ip", "link", "set", "br9", "up")
	h.leavesNothing(t, func() {
		r := h.TrySSM(t, "up", "--timeout", "35s")
		refuses(t, r, 1, "cannot set up the interface tun0", "100.81.0.0/16", "br9", "--force")
		if r.Took > 20*time.Second {
			t.Errorf("not at once: %v", r)
		}
		succeeds(t, h.TrySSM(t, "up", "--force"), "up: h1 on tun0")
		succeeds(t, h.TrySSM(t, "down"), "down")
	})
}
