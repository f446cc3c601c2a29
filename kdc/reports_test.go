package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// report is what one side says of a session a has asked b for.
func report(k *control.Keys, bootA, bootB control.Boot, last bool) *control.SessionReport {
	return &control.SessionReport{Last: last, Opened: []control.SessionEntry{{
		ID: k.Session, Requester: "a", Responder: "b", BootA: bootA, BootB: bootB,
		Digest: control.DigestSelectors(k.Terms.Selectors), AgeMillis: 1000, AsOf: k.Terms.AsOf,
	}}}
}

// TestReports: a KDC that was restarted learns the live sessions from either side and revokes what is not permitted.
func TestReports(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(e *control.SessionEntry)
		want   control.Reason // zero: it is taken
	}{
		"as permitted":     {func(*control.SessionEntry) {}, 0},
		"of two others":    {func(e *control.SessionEntry) { e.Requester = "c" }, control.Malformed},
		"of another boot":  {func(e *control.SessionEntry) { e.BootA = control.NewBoot() }, control.Malformed},
		"its boot before":  {func(e *control.SessionEntry) { e.BootB = control.NewBoot() }, control.Restarted},
		"with itself":      {func(e *control.SessionEntry) { e.Responder = "a" }, control.Malformed},
		"with no peer":     {func(e *control.SessionEntry) { e.Responder = "z" }, control.Changed},
		"with a peer else": {func(e *control.SessionEntry) { e.Responder = "c" }, control.Changed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, aToB)
				p.add(NewPeer{Name: "c"})
				pair := p.snapshot.Load().compiled.Pair("a", "b", time.Now())
				terms := control.Terms{Selectors: pair.Selectors, AsOf: p.snapshot.Load().asOf}
				r := report(&control.Keys{Session: control.NewSessionID(), Terms: terms}, p.a.boot, p.b.boot, true)
				tc.change(&r.Opened[0])
				p.a.send(0, r)
				synctest.Wait()
				list := p.Sessions(SessionFilter{})
				if tc.want == 0 {
					if len(list) != 1 || list[0].Requester != "a" || list[0].Responder != "b" {
						t.Errorf("live sessions %+v", list)
					}
					return
				}
				if got := await[*control.Revoke](p.a); got.Reason != tc.want || len(list) != 0 {
					t.Errorf("revoked for %s, want %s; live sessions %+v", got.Reason, tc.want, list)
				}
			})
		})
	}
}

// TestClosedByBoth: a side is believed about itself alone.
func TestClosedByBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		closed := &control.SessionReport{Closed: []control.SessionID{keys.Session}}
		p.a.send(0, closed)
		synctest.Wait()
		if n := len(p.Sessions(SessionFilter{})); n != 1 {
			t.Errorf("%d live sessions while one side holds it, want 1", n)
		}
		p.b.send(0, closed)
		synctest.Wait()
		if n := len(p.Sessions(SessionFilter{})); n != 0 {
			t.Errorf("%d live sessions when neither side holds it", n)
		}
	})
}

// TestFullReportEndsTheRest: what a run had and does not list after Hello, it has no more.
func TestFullReportEndsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		one, two := acquire(p.a, p.b), acquire(p.a, p.b)
		time.Sleep(time.Second)
		for _, m := range []*module{p.a, p.b} {
			again := p.joinAs(m.id, "198.51.100.7", &control.Hello{Boot: m.boot, Sessions: 1})
			again.send(0, report(one, p.a.boot, p.b.boot, true))
		}
		synctest.Wait()
		list := p.Sessions(SessionFilter{})
		if len(list) != 1 || list[0].ID != one.Session {
			t.Errorf("live sessions %+v, without %s", list, two.Session)
		}
	})
}

func TestSessionBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		pair := p.snapshot.Load().compiled.Pair("a", "b", time.Now())
		terms := control.Terms{Selectors: pair.Selectors, AsOf: p.snapshot.Load().asOf}
		sent := 0
		for sent < maxSessionsOfPeer+10 {
			r := &control.SessionReport{}
			for range 10 {
				k := &control.Keys{Session: control.NewSessionID(), Terms: terms}
				r.Opened = append(r.Opened, report(k, p.a.boot, p.b.boot, false).Opened...)
			}
			sent += 10
			p.a.send(0, r)
			synctest.Wait()
		}
		if n := len(p.Sessions(SessionFilter{All: true})); n != maxSessionsOfPeer {
			t.Errorf("%d sessions taken, want %d", n, maxSessionsOfPeer)
		}
		if got := await[*control.Revoke](p.a); got.Reason != control.Busy {
			t.Errorf("the rest is revoked for %s", got.Reason)
		}
		if _, err := p.RemovePeer(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(p.sessions); n != 0 || p.live["a"].budget != 0 {
			t.Errorf("%d sessions left, budget %d", n, p.live["a"].budget)
		}
	})
}

// TestRestartLearnsSessions: one side's report is enough, and a change that does not concern the other leaves it alone.
func TestRestartLearnsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.stop()
		c := startCenter(t, p.store, p.key)
		a := c.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
		a.send(0, report(keys, p.a.boot, p.b.boot, true))
		synctest.Wait()
		c.add(NewPeer{Name: "c"})
		if list := c.Sessions(SessionFilter{ID: keys.Session}); len(list) != 1 || list[0].Responder != "b" {
			t.Errorf("live sessions %+v", list)
		}
		b := c.join(p.b.id, "198.51.100.2") // another boot
		if got := await[*control.Revoke](a); got.Sessions[0] != keys.Session {
			t.Errorf("told %+v", got)
		}
		b.close()
	})
}

// TestClosedIsAReceipt: a side that reports a revoked session closed has destroyed it.
func TestClosedIsAReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.a.acks()
		go func() {
			await[*control.Revoke](p.b)
			p.b.send(0, &control.SessionReport{Closed: []control.SessionID{keys.Session}})
		}()
		rs, err := p.RevokeSessions(t.Context(), SessionFilter{All: true}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := states(rs); got["a"] != ReceiptAcked || got["b"] != ReceiptAcked {
			t.Errorf("receipts %+v", rs)
		}
	})
}
