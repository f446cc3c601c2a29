package netns

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssmnet/packet/control"
)

// backWithin is how soon after the KDC's return everything runs again, however long it was away: SSMs dial again after 5 s
// at most, and take a connection that says nothing for dead after 45 s.
const backWithin = 15 * time.Second

// absence is a way in which a KDC can be away.
type absence struct {
	name         string
	leave, enter func(t *testing.T, k *KDC)
	says         string // in the status of an SSM
}

var absences = []absence{
	{"killed", func(t *testing.T, k *KDC) { k.Stop(t, syscall.SIGKILL) },
		func(t *testing.T, k *KDC) { k.Serve(t) }, "connection refused"},
	{"frozen", func(t *testing.T, k *KDC) { freeze(t, k.serving.cmd.Process.Pid) },
		func(t *testing.T, k *KDC) { k.serving.Signal(t, syscall.SIGCONT) }, "silent for"},
	{"partitioned", func(t *testing.T, k *KDC) {
		k.Run(t, "nft", `table inet cut { chain in { type filter hook input priority 0; policy drop; }
			chain out { type filter hook output priority 0; policy drop; }; }`)
	}, func(t *testing.T, k *KDC) { k.Run(t, "nft", "delete table inet cut") }, "silent for"},
}

// TestGrace: without a KDC, whatever keeps it away, sessions go on for the grace of the policy and no longer. Then
// applications are told, and operators; and everything comes back with the KDC.
func TestGrace(t *testing.T) {
	t.Parallel()
	for _, away := range absences {
		t.Run(away.name, func(t *testing.T) {
			t.Parallel()
			graceRunsOut(t, away)
		})
	}
}

func graceRunsOut(t *testing.T, away absence) {
	const grace = 4 * time.Second
	n := newOverlay(t, 2)
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	heard := time.Now() // or later
	k.ApplyText(t, fmt.Sprintf(`{"schema": "ssmnet.policy/v1", "session": {"grace": "%v"}, "grants": [%s]}`, grace,
		grant("h1", "h2", "udp/7000", "tcp/7001")))
	f := startFlow(t, a, b, 7000)
	settled(t, a, b)

	left := time.Now()
	away.leave(t, k)
	for _, h := range n.Hosts {
		h.hasNoSession(t)
	}
	end := f.cut(t)
	lasted := end.Sub(left)
	t.Logf("without a KDC the flow went on for %v", lasted.Round(time.Millisecond))
	if end.Sub(heard) < grace || lasted > 2*grace {
		t.Errorf("the flow went on for %v, want the grace of %v", lasted, grace)
	}
	told(t, a, b, away)
	if full {
		eventually(t, control.DeadAfter+control.PingInterval, "the loss of the KDC is noticed", func() error {
			if !strings.Contains(b.Log(t), "lost the connection to a KDC") {
				return errors.New("still connected")
			}
			return nil
		})
		t.Logf("h2 has lost the connection %v after the KDC", time.Since(left).Round(time.Millisecond))
		told(t, a, b, absence{})
	}

	back := time.Now()
	away.enter(t, k)
	f.runs(t)
	took := time.Since(back)
	t.Logf("the flow runs again %v after the KDC", took.Round(time.Millisecond))
	if took > backWithin {
		t.Errorf("the flow came back %v after the KDC, want %v", took, backWithin)
	}
	f.end()
	for _, h := range n.Hosts {
		eventually(t, patience, h.Name+" holds nothing", func() error {
			if held := h.Status(t).Held; held > 0 {
				return fmt.Errorf("%d bytes", held)
			}
			return nil
		})
	}
}

// told checks what an application on a hears of b, and when, and what an operator does.
func told(t *testing.T, a, b *Host, away absence) {
	t.Helper()
	began := time.Now()
	_, err := a.dial(t, "tcp", b.at(6, 7001))
	took := time.Since(began)
	if !errors.Is(err, syscall.EHOSTUNREACH) || took > inTime {
		t.Errorf("TCP: %v after %v, want %v within %v", err, took, syscall.EHOSTUNREACH, control.HoldTimeout)
	}
	t.Logf("TCP: %v after %v", err, took.Round(time.Millisecond))
	if out := a.SSM(t, "status"); !strings.Contains(out, away.says) {
		t.Errorf("no %q in\n%s", away.says, out)
	}
}
