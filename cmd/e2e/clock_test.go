package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
)

const decade = 10 * 365 * 24 * time.Hour

// wallClock is one machine's, which a test may set.
type wallClock struct{ ahead atomic.Int64 }

func (w *wallClock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(w.ahead.Load())) // without a monotonic reading
}

func (w *wallClock) set(ahead time.Duration) { w.ahead.Store(int64(ahead)) }

// TestClocksAreSet: clocks that are set ten years forward, and ten back, at a KDC, at the SSMs and at both, disturb
// nothing that goes on: sessions live and are rekeyed, connections last, and not a packet is lost.
func TestClocksAreSet(t *testing.T) {
	const policy = `{"schema":"ssmnet.policy/v1","session":{"rekey":"2m","idle":"1m","grace":"1m"},
		"grants":[{"id":"all","src":["*"],"dst":["*"],"allow":["*"]}]}`
	for _, where := range []string{"KDC", "SSMs", "both"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil, policy, "ana", "db")
				ana, db := dns(w)
				began := time.Now()
				for i, ahead := range []time.Duration{0, decade, -decade, 0} {
					if where != "SSMs" {
						w.centers[0].wall.set(ahead)
					}
					for _, h := range w.hosts {
						if where != "KDC" {
							h.wall.set(ahead)
						}
					}
					before := w.centers[0].Status().Grants
					for j := range 1200 {
						text := fmt.Sprintf("packet %d of part %d.", j, i)
						ana.say(db, text, false)
						time.Sleep(500 * time.Millisecond)
						if db.heard(text) != 1 {
							t.Fatalf("%s was heard %d times", text, db.heard(text))
						}
					}
					if n := w.centers[0].Status().Grants - before; n < 4 || n > 6 {
						t.Errorf("clock ahead by %s: %d sessions were acquired in 10 minutes, with a rekey every 2", ahead, n)
					}
				}
				for _, h := range w.hosts {
					if k := h.status().KDCs[0]; !k.Connected || k.For < time.Since(began).Seconds()-1 {
						t.Errorf("%s has been connected for %.0f s", h.name, k.For)
					}
				}
				time.Sleep(50 * time.Second)
				if len(ana.sessions("db")) != 1 || len(w.centers[0].Sessions(everySession)) == 0 {
					t.Error("the session did not live until idle was over")
				}
				time.Sleep(3 * time.Minute) // a rekey may have come between
				if n := len(ana.status().Sessions) + len(w.centers[0].Sessions(everySession)); n > 0 {
					t.Errorf("%d sessions outlive idle", n)
				}
			})
		})
	}
}

// TestUntilFollowsTheWallClock: a grant ends and returns as the KDC's wall clock says, and a session never outlives it
// by the SSM's own, both within the minute in which a clock that was set is noticed.
func TestUntilFollowsTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(30 * time.Minute).UTC().Format(time.RFC3339)
		w := newWorld(t, nil, strings.Replace(everything, `"src"`, fmt.Sprintf(`"until":%q,"src"`, until), 1), "ana", "db")
		ana, db := dns(w)
		kdc := w.centers[0]
		w.hello("question")
		id := ana.agreed(db)

		ana.wall.set(decade)
		time.Sleep(time.Minute)
		if len(ana.status().Sessions) > 0 {
			t.Error("at ana the session outlives its grant")
		}
		ana.wall.set(0)
		ana.say(db, "another", false)
		db.hears("another")
		if ana.agreed(db) == id {
			t.Error("the session that has ended is in use")
		}

		kdc.wall.set(decade)
		time.Sleep(time.Minute)
		if n := len(kdc.Sessions(everySession)) + len(ana.status().Sessions) + len(db.status().Sessions); n > 0 {
			t.Errorf("%d sessions outlive the grant", n)
		}
		ana.say(db, "denied", false)
		w.until("ana is answered", func() bool { return ana.answers(packet.AdminProhibited) == 1 })

		kdc.wall.set(-decade)
		time.Sleep(time.Minute)
		for i := range 40 { // well beyond until by the SSMs' clocks, had they not been set too
			for _, h := range w.hosts {
				h.wall.set(-decade)
			}
			text := fmt.Sprintf("packet %d.", i)
			ana.say(db, text, false)
			db.hears(text)
			time.Sleep(time.Minute)
		}
		if n := ana.answers(packet.AdminProhibited); n != 1 {
			t.Errorf("ana was denied %d times", n)
		}
	})
}
