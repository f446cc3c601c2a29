package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestMovedSubnetNarrows: a session with the peer that had a subnet goes on without it, and where it had no use for it, as it
// is. A KDC that knows the session from a report alone judges by its digest.
func TestMovedSubnetNarrows(t *testing.T) {
	const (
		overlay = `{"schema":"ssmnet.policy/v1","grants":[{"id":"i","src":["a"],"dst":["b","c"],"allow":["icmp"]}]}`
		site    = `{"schema":"ssmnet.policy/v1","grants":[{"id":"i","src":["a"],"dst":["b","c","10.20.0.0/16"],"allow":["icmp"]}]}`
	)
	subnet := subnetsOf("10.20.0.0/16")
	move := func(t *testing.T, c *center) {
		t.Helper()
		if _, err := c.ChangePeer(t.Context(), "b", PeerChange{RemoveSubnets: subnet}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ChangePeer(t.Context(), "c", PeerChange{AddSubnets: subnet}); err != nil {
			t.Fatal(err)
		}
	}
	setUp := func(t *testing.T, policy string) (pair, *control.Keys) {
		p := newPair(t, policy)
		p.add(NewPeer{Name: "c"})
		if _, err := p.ChangePeer(t.Context(), "b", PeerChange{AddSubnets: subnet}); err != nil {
			t.Fatal(err)
		}
		asOf := p.snapshot.Load().asOf
		p.a.welcome.Config.AsOf, p.b.welcome.Config.AsOf = asOf, asOf
		return p, acquire(p.a, p.b)
	}
	// narrowed checks that the side is told to go on with what has nothing of the subnet.
	narrowed := func(t *testing.T, m *module, keys *control.Keys) {
		t.Helper()
		n := m.narrow(keys.Terms.Selectors)
		if n.Session != keys.Session || len(n.Selectors) == 0 {
			t.Errorf("told %+v", n)
		}
		for _, s := range n.Selectors {
			if s.Src.Overlaps(subnet[0]) || s.Dst.Overlaps(subnet[0]) {
				t.Errorf("goes on with %s", s)
			}
		}
	}
	again := func(c *center, p pair, keys *control.Keys) *module {
		a := c.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
		a.send(0, report(keys, p.a.boot, p.b.boot, true))
		synctest.Wait()
		return a
	}
	t.Run("granted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, keys := setUp(t, site)
			move(t, p.center)
			narrowed(t, p.a, keys)
			narrowed(t, p.b, keys)
		})
	})
	t.Run("without use for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, _ := setUp(t, overlay)
			move(t, p.center)
			for _, m := range append(p.a.drained(), p.b.drained()...) {
				if _, update := m.(*control.Update); !update {
					t.Errorf("told %+v", m)
				}
			}
		})
	})
	t.Run("reported before", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, keys := setUp(t, site)
			p.stop()
			c := startCenter(t, p.store, p.key)
			a := again(c, p, keys)
			if n := len(c.Sessions(SessionFilter{})); n != 1 {
				t.Fatalf("%d live sessions", n)
			}
			move(t, c)
			narrowed(t, a, keys)
		})
	})
	t.Run("reported after", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, keys := setUp(t, site)
			p.a.close()
			p.b.close()
			move(t, p.center)
			p.stop()
			c := startCenter(t, p.store, p.key)
			narrowed(t, again(c, p, keys), keys)
		})
	})
}

// TestOneSidedSession: an operator's revocation was acked by one side and never reached the other; a KDC that has
// forgotten it learns the session of the other's report, and ends what one side alone holds.
func TestOneSidedSession(t *testing.T) {
	for name, order := range map[string][]string{"holder first": {"a", "b"}, "holder last": {"b", "a"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, aToB)
				keys := acquire(p.a, p.b)
				p.stop()
				c := startCenter(t, p.store, p.key)
				var a *module
				for _, who := range order {
					if who == "a" {
						a = c.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
						a.send(0, report(keys, p.a.boot, p.b.boot, true))
					} else {
						c.joinAs(p.b.id, "198.51.100.2", &control.Hello{Boot: p.b.boot})
					}
					time.Sleep(time.Second)
				}
				if n := len(c.Sessions(SessionFilter{})); n != 1 {
					t.Errorf("%d live sessions before the grace is over", n)
				}
				if got := await[*control.Revoke](a); got.Sessions[0] != keys.Session {
					t.Errorf("told %+v", got)
				}
			})
		})
	}
}

// TestLateReportSavesSession: a report that both sides make, or that the far side has yet to make, ends nothing.
func TestLateReportSavesSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.stop()
		c := startCenter(t, p.store, p.key)
		a := c.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
		b := c.joinAs(p.b.id, "198.51.100.2", &control.Hello{Boot: p.b.boot})
		a.send(0, report(keys, p.a.boot, p.b.boot, true))
		time.Sleep(time.Second)
		b.send(0, report(keys, p.a.boot, p.b.boot, false)) // another KDC granted it a moment ago
		time.Sleep(time.Minute / 2)
		if n := len(c.Sessions(SessionFilter{})); n != 1 {
			t.Errorf("%d live sessions", n)
		}
	})
}

// TestGrantReplacesReport: a responder that reports the session it was offered as one with somebody else leaves nothing
// behind with that peer.
func TestGrantReplacesReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		third := p.join(p.add(NewPeer{Name: "c"}), "198.51.100.3")
		asOf := p.snapshot.Load().asOf
		p.a.welcome.Config.AsOf, p.b.welcome.Config.AsOf = asOf, asOf
		r := p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		pair := p.snapshot.Load().compiled.Pair("c", "b", time.Now())
		p.b.send(0, &control.SessionReport{Opened: []control.SessionEntry{{
			ID: offer.Session, Requester: "c", Responder: "b", BootA: third.boot, BootB: p.b.boot,
			Digest: control.DigestSelectors(pair.Selectors), AsOf: asOf,
		}}})
		synctest.Wait()
		if n := len(p.live["c"].sessions); n != 1 {
			t.Fatalf("the report was not taken: %d sessions", n)
		}
		p.b.acceptOffer(offer)
		p.a.granted(r)
		if n := len(p.live["c"].sessions); n != 0 || p.live["b"].budget != 0 {
			t.Errorf("%d sessions are left with the third peer, budget %d", n, p.live["b"].budget)
		}
		if list := p.Sessions(SessionFilter{}); len(list) != 1 || list[0].Requester != "a" {
			t.Errorf("live sessions %+v", list)
		}
	})
}

// TestSessionOfNewerState: what another KDC has granted under a state that this one has yet to see is left alone until it
// has, and then judged by it.
func TestSessionOfNewerState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, onlyHTTP)
		asOf := p.snapshot.Load().asOf
		asOf.Revision++
		pair := p.snapshot.Load().compiled.Pair("a", "b", time.Now())
		keys := &control.Keys{Session: control.NewSessionID(), Terms: control.Terms{Selectors: pair.Selectors[:1], AsOf: asOf}}
		p.a.send(0, report(keys, p.a.boot, p.b.boot, true))
		p.b.send(0, report(keys, p.a.boot, p.b.boot, true))
		for _, m := range append(p.a.drained(), p.b.drained()...) {
			t.Errorf("told %+v before the state has come", m)
		}
		p.a.acks()
		p.b.acks()
		r := p.apply(nobodyElse)
		if got := states(r.Revoked); got["a"] != ReceiptAcked || got["b"] != ReceiptAcked || r.Revoked[0].Session != keys.Session {
			t.Errorf("judged by the state that has come: %+v", r)
		}
	})
}

const nobodyElse = `{"schema":"ssmnet.policy/v1","grants":[{"id":"n","src":["b"],"dst":["z"],"allow":["icmp"]}]}`
