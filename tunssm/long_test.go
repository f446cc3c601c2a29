package tunssm

import (
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// kept is how much an acquirer keeps, by name.
func (s *station) kept() (n map[string]int) {
	synctest.Wait()
	s.in(func(a *acquirer) {
		n = map[string]int{
			"timers": len(a.timers.agenda), "holds": len(a.holds.queues), "held bytes": a.holds.total,
			"attempts": len(a.attempts), "asking": len(a.asking), "pending": len(a.pending), "peers": len(a.peers),
			"revoked": len(a.revoked), "links": len(a.links.list), "connections": len(a.links.live),
			"opened": len(a.report.newer), "ended": len(a.report.ended), "pings": len(a.pings.waiting),
			"echoes": len(a.pings.echoes), "orders": len(a.orders), "table": len(a.table.Load().sessions),
		}
	})
	return n
}

// TestLongRunKeepsNothing: after a day of sessions that were rekeyed, idle, revoked, denied, given up, cut by grace and
// by restarts, each part of the acquirer holds what it did before.
func TestLongRunKeepsNothing(t *testing.T) {
	inWorld(t, 2, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[1]
		w.connect("a", "b")
		w.connect("c", "a")
		time.Sleep(10 * time.Minute) // until they have closed
		before := a.kept()
		for hour := range 24 {
			for i := range 60 {
				w.send("a", "b", fmt.Sprintf("%d.%d", hour, i))
				w.send("c", "a", fmt.Sprintf("%d.%d", hour, i))
				time.Sleep(20 * time.Second)
			}
			for _, name := range []string{"a", "b"} {
				if s := w.stations[name].sending(map[string]string{"a": "b", "b": "a"}[name]); s != nil {
					kdc.tell(name, &control.Revoke{Sessions: []control.SessionID{s.id, s.id}, Reason: control.Operator})
				}
			}
			w.unhappily(hour)
			a.received()
			w.stations["b"].received()
			w.stations["c"].received()
		}
		time.Sleep(20 * time.Minute)
		if after := a.kept(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("kept %v\nbefore %v", after, before)
		}
		if n := len(a.acq.denials); n > 2 {
			t.Errorf("%d denials of 2 services", n)
		}
	})
}

// unhappily is one of the ways in which things end.
func (w *world) unhappily(which int) {
	a, b := w.stations["a"], w.stations["b"]
	all := func(change func(*script)) {
		for _, c := range w.kdcs {
			c.set(change)
		}
	}
	try := func(seconds int) {
		for range seconds {
			a.host.TUN.Inject(datagram(a, b, 9, "perhaps"))
			time.Sleep(time.Second)
		}
	}
	switch which % 6 {
	case 0: // denied, then offline
		all(func(s *script) { s.decide = no(control.Denied) })
		try(20)
		all(func(s *script) { s.decide = no(control.Offline) })
		try(20)
		all(func(s *script) { s.decide = nil })
	case 1: // silent KDCs
		all(func(s *script) { s.mute = true })
		try(20)
		all(func(s *script) { s.mute = false })
	case 2: // a dead path
		w.net.SetRule(fake.Drop)
		try(60)
		w.net.SetRule(nil)
	case 3: // no KDC within grace
		for i := range w.kdcs {
			w.net.Refuse(kdcAddress(i), true)
			w.net.Cut(kdcAddress(i))
		}
		try(1000)
		for i := range w.kdcs {
			w.net.Refuse(kdcAddress(i), false)
		}
	case 4: // the peer begins again
		try(5)
		w.restart("b")
	case 5: // both ask at once
		a.host.TUN.Inject(datagram(a, b, 9, "perhaps"))
		b.host.TUN.Inject(datagram(b, a, 9, "perhaps"))
	}
	time.Sleep(30 * time.Second)
}

// TestOneLostFrame: a lost frame of sparse traffic, or the loss of what answers it, acquires nothing.
func TestOneLostFrame(t *testing.T) {
	for _, from := range []string{"a", "b"} {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.RekeyMillis = 0 } })
			w.connect("a", "b")
			a, b := w.stations["a"], w.stations["b"]
			var lose atomic.Bool
			w.net.SetRule(func(d fake.Datagram) []fake.Delivery {
				if d.Src == w.stations[from].host.UDP.Addr() && lose.CompareAndSwap(true, false) {
					return nil
				}
				return fake.Through(d)
			})
			for range 10 {
				time.Sleep(20 * time.Second)
				lose.Store(true)
				a.host.TUN.Inject(datagram(a, b, 9, "syslog"))
			}
			time.Sleep(20 * time.Second)
			if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 1 {
				t.Errorf("frames of %s lost: %d requests, want 1", from, n)
			}
		})
	}
}

// TestOrdersAreForgotten: of peers with which there has been no session for long, and of no others.
func TestOrdersAreForgotten(t *testing.T) {
	o, now := orders{}, time.Now()
	o.note(&session{peer: &peer{name: "gone"}, order: 1, since: now.Add(-ordersFor)})
	o.note(&session{peer: &peer{name: "recent"}, order: 1, since: now.Add(time.Second - ordersFor)})
	o.note(&session{peer: &peer{name: "live"}, order: 1, since: now.Add(-2 * ordersFor)})
	o.forget(now, map[string]*peer{"live": {}})
	if _, gone := o["gone"]; gone || len(o) != 2 {
		t.Errorf("left: %v", o)
	}
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		w.stations["a"].in(func(acq *acquirer) {
			acq.orders["gone"] = highest{}
			acq.timers.agenda[slices.IndexFunc(acq.timers.agenda, func(x *timer) bool {
				return x.when.Equal(acq.began.Add(ordersFor))
			})].run()
			if len(acq.orders) != 0 {
				t.Error("an old order is kept")
			}
		})
	})
}

// TestLongRefusalIsSaidOnce: an SSM that no KDC lets in, or that finds none, does not fill the log.
func TestLongRefusalIsSaidOnce(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.GraceMillis, x.IdleMillis = 0, 0 } })
		w.connect("a", "b")
		seen := lines{}
		w.stations["a"].in(func(acq *acquirer) { acq.log = slog.New(seen) })
		w.kdcs[0].set(func(s *script) {
			s.reply = func(l *line, e control.Envelope) bool {
				l.conn.Send(e.ID, &control.Refusal{Refused: control.TypeHello, Reason: control.Suspended})
				l.conn.Shutdown(time.Second)
				return true
			}
		})
		w.net.Cut(kdcAddress(0))
		time.Sleep(11 * time.Minute)
		w.stations["a"].in(func(*acquirer) {
			if n := seen["refused by a KDC"]; n != 1 {
				t.Errorf("%d lines say it: %v", n, seen)
			}
		})

		w.stations["a"].in(func(acq *acquirer) { // many sessions whose rekey is due
			clear(seen)
			for range 1000 {
				s := acq.peers["b"].sessions[0]
				s.asked = 0
				acq.replace(s, s.age(), "rekey")
			}
			if n := seen["acquiring again"] + seen["no session"]; n == 0 || n > stepBurst {
				t.Errorf("%d lines about 1000 rekeys without a KDC", n)
			}
		})
	})
}
