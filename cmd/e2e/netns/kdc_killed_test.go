package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// knownWithin is how soon after the KDC's restart live sessions are known, and can be revoked, and there are new ones:
// SSMs dial again after 5 s at most.
const knownWithin = 10 * time.Second

// TestKilledKDC: the KDC is killed again and again, and is away for up to some seconds, under traffic between h1 and h2
// that loses nothing. After each restart a session of h2 and h3, which it knows from them alone, is revoked, and h1 gets
// a new one with h3.
func TestKilledKDC(t *testing.T) {
	t.Parallel()
	kills := times(3, 50)
	n := newOverlay(t, 3, grant("tag:all", "tag:all", "udp/7000-7003", fmt.Sprint("tcp/7100-", 7100+kills)))
	a, b, c, k := n.Hosts[0], n.Hosts[1], n.Hosts[2], n.KDC
	there, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7001)
	id := settled(t, a, b)
	old, fresh := newSequence(t, b, c, 7002), newSequence(t, a, c, 7003)
	var known, revoked, renewed []time.Duration
	for i := range kills {
		setUp(t, []*sequence{old})
		k.parted(t, a, c)
		whole := newTransfer(t, a, b, 7100+i)

		k.Stop(t, syscall.SIGKILL)
		killed, away := time.Now(), time.Duration(7*i%10)*600*time.Millisecond
		k.tears(t)
		whole.run(t, 256<<10, patience)
		for time.Since(killed) < away {
			there.runs(t)
		}
		took := make(chan time.Duration, 1)
		restarted := time.Now()
		go func() {
			d, err := fresh.answer()
			if err != nil {
				t.Error(err)
			}
			took <- d
		}()
		k.Serve(t)
		k.knows(t, a, b, c)
		known = append(known, time.Since(restarted))
		if r := k.Try(t, "session", "revoke", "--pair", "h2,h3", "--wait", "5s"); r.Code != 0 {
			t.Error(r)
		}
		revoked = append(revoked, time.Since(restarted))
		if left := c.Sending(t); len(left) > 1 { // at most the new one
			t.Errorf("h3 still sends on %v", left)
		}
		renewed = append(renewed, <-took)
	}
	report(t, "sessions known", known, knownWithin)
	report(t, "session revoked, with receipts", revoked, knownWithin)
	report(t, "new session", renewed, knownWithin)
	if onA, onB := a.Sending(t), b.Sending(t); !slices.Contains(onA, id) || !slices.Contains(onB, id) {
		t.Errorf("h1 sends on %v, h2 on %v, neither may have left %s", onA, onB, id)
	}
	there.lostNothing(t)
	back.lostNothing(t)
	t.Logf("%d and %d datagrams, none lost", there.sent, back.sent)
	old.check(t)
	fresh.check(t)
}

// report logs how long something took, and wants each within a limit.
func report(t *testing.T, what string, took []time.Duration, limit time.Duration) {
	t.Helper()
	slices.Sort(took)
	worst := took[len(took)-1]
	t.Logf("%s: %d times, median %v, worst %v", what, len(took), took[len(took)/2].Round(time.Millisecond),
		worst.Round(time.Millisecond))
	if worst > limit {
		t.Errorf("%s after %v, want %v", what, worst, limit)
	}
}

// parted revokes what two hosts have with each other until that is nothing.
func (k *KDC) parted(t *testing.T, a, b *Host) {
	t.Helper()
	eventually(t, patience, "no session is left", func() error {
		if r := k.Try(t, "session", "revoke", "--pair", a.Name+","+b.Name, "--wait", "1s"); r.Code != 0 && r.Code != 5 {
			return errors.New(r.String())
		}
		for _, s := range append(a.Status(t).Sessions, b.Status(t).Sessions...) {
			if s.Peer == a.Name || s.Peer == b.Name {
				return fmt.Errorf("session %s with %s", s.ID, s.Peer)
			}
		}
		return nil
	})
}

// tears leaves the audit record as a KDC does that is killed while it writes.
func (k *KDC) tears(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(k.dir, "audit.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(`{"time":"2026-`); err != nil {
		t.Fatal(err)
	}
}

// knows waits until the KDC lists the sessions of a and b and of b and c, and has a connection of each host.
func (k *KDC) knows(t *testing.T, a, b, c *Host) {
	t.Helper()
	eventually(t, started, "the KDC knows the sessions", func() error {
		pairs := map[string]bool{}
		for _, s := range k.Sessions(t) {
			pairs[s.Requester+s.Responder] = true
		}
		for _, pair := range [][2]*Host{{a, b}, {b, c}} {
			x, y := pair[0].Name, pair[1].Name
			if !pairs[x+y] && !pairs[y+x] {
				return fmt.Errorf("none of %s and %s in %v", x, y, pairs)
			}
		}
		return nil
	})
	k.online(t, a, b, c)
}
