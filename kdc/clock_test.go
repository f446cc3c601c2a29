package kdc

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

const decade = 10 * 365 * 24 * time.Hour

// wallClock is the wall clock of a KDC under test. Unless the test makes it steady it is ten years ahead and ten years
// behind by turns, from one reading to the next: a duration that is taken from it cannot be right.
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
		return at.Add(decade)
	}
	return at.Add(-decade)
}

// set makes the clock steady, and ahead of the true time.
func (w *wallClock) set(ahead time.Duration) {
	w.offset.Store(int64(ahead))
	w.steady.Store(true)
}

// TestDurationsAreMonotonic: what the KDC counts in seconds does not follow the wall clock, whatever that says. Most tests
// here would fail too if theirs did: see wallClock.
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
