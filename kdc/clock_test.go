package kdc

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

const decade = 10 * 365 * 24 * time.Hour

// swing is longer than any duration that the KDC counts, and shorter than a token's life.
const swing = time.Hour

// wallClock is the wall clock of a KDC under test. Unless the test makes it steady it is ahead and behind by turns, from
// one reading to the next: a duration that is taken from it cannot be right.
type wallClock struct {
	readings atomic.Int64
	steady   atomic.Bool
	offset   atomic.Int64 // of the steady clock, a time.Duration
}

func (w *wallClock) now() time.Time {
	at := time.Now().Round(0) // as any clock but the monotonic one
	switch {
	case w.steady.Load():
		return at.Add(time.Duration(w.offset.Load()))
	case w.readings.Add(1)%2 == 0:
		return at.Add(swing)
	}
	return at.Add(-swing)
}

// set makes the clock steady, and ahead of the true time.
func (w *wallClock) set(ahead time.Duration) {
	w.offset.Store(int64(ahead))
	w.steady.Store(true)
}

// TestDurationsAreMonotonic: what the KDC counts in seconds does not follow the wall clock, whatever that says. Other
// tests would fail too if theirs did: see wallClock.
func TestDurationsAreMonotonic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		first, second := acquire(p.a, p.b), control.SessionID{}
		for range rateOver {
			time.Sleep(time.Second)
			second = acquire(p.a, p.b).Session
		}
		time.Sleep(time.Second)
		st := p.Status()
		if st.RequestsPerSecond != 1 || st.Uptime < rateOver+1 || st.Uptime > rateOver+2 {
			t.Errorf("%.2f requests/s, up for %.2f s", st.RequestsPerSecond, st.Uptime)
		}
		if list := p.Sessions(SessionFilter{}); list[0].ID != first.Session || list[rateOver].ID != second {
			t.Errorf("%d sessions are listed out of order", len(list))
		}
		p.revoked.add(first.Session, control.Operator)
		time.Sleep(revokedFor)
		p.revoked.add(second, control.Operator)
		if _, known := p.revoked.has(first.Session); !known {
			t.Errorf("a revoked session is forgotten within %s", revokedFor)
		}
		time.Sleep(time.Second)
		p.revoked.add(control.NewSessionID(), control.Operator)
		if _, known := p.revoked.has(first.Session); known {
			t.Errorf("a revoked session is remembered for longer than %s", revokedFor)
		}
	})
}

// TestTokenFollowsTheWallClock: what its TTL says is what a person reads on the wall.
func TestTokenFollowsTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		e, err := c.AddPeer(t.Context(), NewPeer{Name: "a", TokenTTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		c.wall.set(decade)
		if _, err := c.redeem(tokenOf(t, e)); err == nil {
			t.Error("redeemed when the wall clock says that it has expired")
		}
		c.wall.set(-decade)
		time.Sleep(2 * time.Hour)
		if _, err := c.redeem(tokenOf(t, e)); err != nil {
			t.Errorf("not redeemed when the wall clock says that it has not expired: %v", err)
		}
	})
}

// TestGrantReturns: a clock that is set back before a grant's until, like one that passes it, makes the KDC decide anew
// within a minute.
func TestGrantReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		p.wall.set(0)
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		p.apply(fmt.Sprintf(subnetUntil, until))
		p.ChangePeer(t.Context(), "b", PeerChange{AddSubnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}})
		go keepAlive(p.a)
		go keepAlive(p.b)
		for _, step := range []struct {
			ahead  time.Duration
			routes int
		}{{0, 1}, {decade, 0}, {0, 1}, {-decade, 1}, {decade, 0}} {
			p.wall.set(step.ahead)
			time.Sleep(time.Minute)
			var last *control.Update
			for _, m := range p.a.drained() {
				if u, ok := m.(*control.Update); ok {
					last = u
				}
			}
			if last != nil {
				p.a.welcome.Config = last.Config
			}
			if got := p.a.welcome.Config.Routes; len(got) != step.routes {
				t.Errorf("clock ahead by %s: routes %v, want %d", step.ahead, got, step.routes)
			}
		}
	})
}

const subnetUntil = `{"schema":"ssmnet.policy/v1","grants":[
	{"id":"x","src":["a"],"dst":["10.9.0.0/16"],"allow":["*"],"until":%q}]}`

// TestFullReportAfterTheClockWasSet: what a run had held before its Hello and does not report, it holds no more, though
// by the wall clock it began later.
func TestFullReportAfterTheClockWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.wall.set(decade)
		acquire(p.a, p.b)
		time.Sleep(time.Second)
		p.wall.set(-decade)
		for _, m := range []*module{p.a, p.b} {
			p.joinAs(m.id, "198.51.100.7", &control.Hello{Boot: m.boot})
		}
		if list := p.Sessions(SessionFilter{}); len(list) != 0 {
			t.Errorf("live sessions %+v", list)
		}
	})
}
