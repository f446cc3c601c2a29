package netns

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cutWithin is how soon after the command a revoked flow must have ended. It takes milliseconds; what else would end it,
// the next look at a connection that says nothing, is 15 s away.
const cutWithin = 5 * time.Second

// cuts runs a kdc command and checks that it cuts the flow in time, with a receipt of both sides.
func cuts(t *testing.T, k *KDC, f *flow, command ...string) {
	t.Helper()
	began := time.Now()
	out := k.Do(t, command...)
	took := max(f.cut(t).Sub(began), 0)
	if took > cutWithin {
		t.Errorf("%v: the flow went on for %v", command, took)
	}
	t.Logf("%v: last answer after %v", command, took.Round(100*time.Microsecond))
	if lines := receipts(out); len(lines) != 2 || lines["h1"] != "acked" || lines["h2"] != "acked" {
		t.Errorf("%v: want a receipt of each side, got\n%s", command, out)
	}
}

// receipts reads the table of receipts: peer to state.
func receipts(out string) map[string]string {
	states := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 4 && f[0] != "SESSION" {
			states[f[1]] = f[2]
		}
	}
	return states
}

// TestCut: what is no longer permitted ends at once, and comes back when it is permitted again.
func TestCut(t *testing.T) {
	t.Parallel()
	permitted := grant("h1", "h2", "udp/7000-7009")
	n := newOverlay(t, 2, permitted)
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	f := startFlow(t, a, b, 7000)

	cuts(t, k, f, "peer", "suspend", "h2")
	if r := a.TrySSM(t, "ping", "h2", "-c", "1"); r.Code != 4 {
		t.Errorf("want denied (exit 4), got %v", r)
	}
	began := time.Now()
	k.Do(t, "peer", "resume", "h2")
	f.runs(t)
	t.Logf("resumed: the flow runs again after %v", time.Since(began).Round(time.Millisecond))

	began = time.Now()
	out := k.Apply(t)
	if took := f.cut(t).Sub(began); took > cutWithin || len(receipts(out)) != 2 {
		t.Errorf("an empty policy: the flow went on for %v; want receipts in\n%s", took, out)
	}
	checkTCP(t, a, b.at(4, 7000), syscall.EHOSTUNREACH)
	k.Apply(t, permitted)
	f.runs(t)

	cuts(t, k, f, "peer", "remove", "h2")
	if r := k.Try(t, "peer", "show", "h2"); r.Code != 5 {
		t.Errorf("want not found (exit 5), got %v", r)
	}
	refuses(t, b.TrySSM(t, "status", "--check", "ready"), 3, "not ready")
}

// TestSessionRevoke: the KDC lists a session as both sides have it; revoked, it is gone on both, and the next packet
// acquires another and is not lost. (One that is under way when its session is destroyed is.)
func TestSessionRevoke(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000-7009"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	var seen []string
	for i, by := range [][]string{nil, {"--peer", "h2"}, {"--pair", "h2,h1"}, {"--all"}, {"--all"}} {
		f := startFlow(t, a, b, 7000+i)
		id := settled(t, a, b)
		f.lostNothing(t)
		if slices.Contains(seen, id) {
			t.Fatalf("session %s is used again after it was revoked", id)
		}
		seen = append(seen, id)
		live := k.Sessions(t)
		if len(live) != 1 || live[0].ID.String() != id || live[0].Requester != "h1" || live[0].Responder != "h2" {
			t.Fatalf("the KDC lists %+v, want session %s of h1 and h2", live, id)
		}
		if out := k.Do(t, "session", "show", id); !strings.Contains(out, "h1-h2") {
			t.Errorf("no grant h1-h2 in\n%s", out)
		}
		if by == nil {
			by = []string{id}
		}
		revokes(t, k, by...)
		if left := len(a.Status(t).Sessions) + len(b.Status(t).Sessions) + len(k.Sessions(t)); left != 0 {
			t.Errorf("%v leaves %d sessions", by, left)
		}
	}
	refuses(t, k.Try(t, "session", "show", seen[0]), 5, seen[0])
	refuses(t, k.Try(t, "session", "revoke", seen[0]), 5, seen[0])
}

// revokes runs `kdc session revoke`, which must destroy one session with a receipt of each side.
func revokes(t *testing.T, k *KDC, which ...string) {
	t.Helper()
	out := k.Do(t, append([]string{"session", "revoke", "--wait", "5s"}, which...)...)
	got := receipts(out)
	if !strings.HasPrefix(out, "1 session revoked\n") || got["h1"] != "acked" || got["h2"] != "acked" {
		t.Errorf("revoke %v: want one session and a receipt of each side, got\n%s", which, out)
	}
}

// TestPendingReceipt: a side that does not answer owes its receipt, is told so that it destroys the session as soon as it
// can, and keeps nobody waiting longer than asked.
func TestPendingReceipt(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	startFlow(t, a, b, 7000).lostNothing(t)
	settled(t, a, b)
	pid := b.daemon(t)
	freeze(t, pid)
	r := k.Try(t, "session", "revoke", "--all", "--wait", "300ms")
	if got := receipts(r.Stdout); r.Code != 8 || got["h1"] != "acked" || got["h2"] != "pending" ||
		!strings.HasPrefix(r.Stderr, "kdc: 1 of 2 receipts still pending") || r.Took > longest/2 {
		t.Errorf("want one receipt, exit 8 in time, got %v", r)
	}
	if left := a.Sending(t); len(left) > 0 {
		t.Errorf("h1 still sends on %v", left)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, started, "h2 destroys the session", func() error {
		if left := b.Sending(t); len(left) > 0 {
			return fmt.Errorf("%v is left", left)
		}
		return nil
	})
}

// TestRestartOfKDC: live sessions need no KDC, and a new run of it knows them from their ends.
func TestRestartOfKDC(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/7000-7001"))
	a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
	f := startFlow(t, a, b, 7000)
	id := settled(t, a, b)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if r := k.Stop(t, signal); (r.Code == 0) != (signal == syscall.SIGTERM) {
			t.Error(r)
		}
		f.runs(t)
		k.Serve(t)
		began := time.Now()
		eventually(t, started, "the KDC lists the session again", func() error {
			if live := k.Sessions(t); len(live) != 1 || live[0].ID.String() != id || live[0].Requester != "h1" {
				return fmt.Errorf("it lists %+v, not %s", live, id)
			}
			return nil
		})
		t.Logf("%v: the session is listed %v after the restart", signal, time.Since(began).Round(time.Millisecond))
	}
	if now := settled(t, a, b); now != id {
		t.Errorf("session %s has replaced %s", now, id)
	}
	k.online(t, a, b)
	f.lostNothing(t)
	revokes(t, k, id)
	startFlow(t, a, b, 7001).lostNothing(t)
	if now := settled(t, a, b); now == id {
		t.Error("the revoked session lives")
	}
}
