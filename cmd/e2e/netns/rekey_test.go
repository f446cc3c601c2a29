package netns

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssmnet/tunssm"
)

// rekeys is how often TestRekey replaces the session.
var rekeys = times(30, 1000)

// TestRekey: sessions are replaced while a connection fills the tunnel both ways, from either side and from both at once,
// and no packet is lost.
func TestRekey(t *testing.T) {
	n := newOverlay(t, 2, grant("tag:all", "tag:all", "udp/7000-7099", "tcp/7002"))
	l := startLoad(t, n)
	var took []time.Duration
	id := settled(t, n.Hosts[0], n.Hosts[1])
	glares := 0
	for i := range rekeys {
		var results []Result
		switch i % 3 {
		case 0, 1:
			results = append(results, n.rekey(t, i%3).Wait(t, longest))
		case 2:
			results = n.rekeyAtOnce(t)
		}
		for _, r := range results {
			if r.Code != 0 {
				t.Error(r)
			}
			took = append(took, r.Took)
		}
		was := id
		if id = settled(t, n.Hosts[0], n.Hosts[1]); id == was {
			t.Errorf("rekey %d: still session %s", i, id)
		}
		if i%3 == 2 && glared(n.Hosts[0].Status(t).Sessions) {
			glares++
		}
	}
	t.Logf("%d rekeys, in %d both sides asked at once, commands took %s", rekeys, glares, spread(took))
	if glares < rekeys/6 {
		t.Error("the sides hardly ever asked at once: this shows less than it says")
	}
	l.lostNothing(t)
}

// rekey has one side replace the session.
func (n *Net) rekey(t *testing.T, side int) *Process {
	t.Helper()
	h := n.Hosts[side]
	return h.Start(t, program("ssm"), "--dir", h.dir, "session", "rekey", n.Hosts[1-side].Name)
}

// rekeyAtOnce has both sides do it. The KDC stands still until both have asked.
func (n *Net) rekeyAtOnce(t *testing.T) []Result {
	t.Helper()
	const asks = `msg="acquiring again"`
	var asked [2]int
	for side, h := range n.Hosts {
		asked[side] = strings.Count(h.Log(t), asks)
	}
	freeze(t, n.KDC.serving.cmd.Process.Pid)
	both := []*Process{n.rekey(t, 0), n.rekey(t, 1)}
	for side, h := range n.Hosts {
		eventually(t, started, h.Name+" asks", func() error {
			if now := strings.Count(h.Log(t), asks); now == asked[side] {
				return fmt.Errorf("%d times so far", now)
			}
			return nil
		})
	}
	n.KDC.serving.Signal(t, syscall.SIGCONT)
	return []Result{both[0].Wait(t, longest), both[1].Wait(t, longest)}
}

// glared says whether the last two sessions were asked for at once: each responder gave its own the same order.
func glared(sessions []tunssm.SessionStatus) bool {
	var orders []uint64
	for _, s := range sessions {
		orders = append(orders, s.Order)
	}
	slices.Sort(orders)
	last := len(orders) - 1
	return last > 0 && orders[last] == orders[last-1]
}

// TestAutomaticRekey: the same where policy has sessions replaced as often as it can, by whichever side is first.
func TestAutomaticRekey(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	n.start(t, "10.77.0.1")
	n.KDC.ApplyText(t, `{"schema": "ssmnet.policy/v1", "session": {"rekey": "1s"}, "grants": [`+
		grant("tag:all", "tag:all", "udp/7000-7099", "tcp/7002")+`]}`)
	l := startLoad(t, n)
	wanted := times(4, 60)
	had := n.installed(t)
	eventually(t, time.Duration(wanted)*4*time.Second, "the sessions are replaced", func() error {
		if more := n.installed(t) - had; more < wanted {
			return fmt.Errorf("%d times", more)
		}
		return nil
	})
	l.lostNothing(t)
}

// installed is how many sessions the first host has had.
func (n *Net) installed(t *testing.T) int {
	t.Helper()
	return strings.Count(n.Hosts[0].Log(t), " step=3 ")
}
