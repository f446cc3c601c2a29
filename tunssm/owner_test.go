package tunssm

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// discard permits the discard port alone.
var discard = packet.Selectors{{
	Src: allFlows[0].Src, Dst: allFlows[0].Dst, Protocol: packet.UDP, Ports: packet.PortRange{Lo: 9, Hi: 9},
}}

// TestOwner: of two peers with the same prefix, that one has it which was given it last, however often the table is
// made.
func TestOwner(t *testing.T) {
	now := time.Now()
	old, recent := control.AsOf{Epoch: 1, Revision: 1}, control.AsOf{Epoch: 1, Revision: 2}
	tests := []struct {
		name         string
		asOfB, asOfC control.AsOf
		givenB       time.Time // c's is now
		to           string
	}{
		{"newer state", old, recent, now.Add(time.Hour), "c"},
		{"older state", recent, old, now.Add(-time.Hour), "b"},
		{"same state, later", recent, recent, now.Add(-time.Second), "c"},
		{"same state, earlier", recent, recent, now.Add(time.Second), "b"},
		{"all the same", recent, recent, now, "c"},
	}
	for _, tt := range tests {
		lan := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
		b := &peer{name: "b", prefixes: lan, asOf: tt.asOfB, given: tt.givenB, sessions: []*session{{spi: 1}}}
		c := &peer{name: "c", prefixes: lan, asOf: tt.asOfC, given: now, sessions: []*session{{spi: 2}}}
		for range 50 {
			got := newTable(map[string]*peer{"b": b, "c": c}, recent).owner(netip.MustParseAddr("10.1.2.3"))
			if got.name != tt.to {
				t.Fatalf("%s: %s has the prefix, want %s", tt.name, got.name, tt.to)
			}
		}
	}
}

// TestPrefixMoves: an address that policy has moved to another peer is asked for once, though the session with the peer
// that had it lives on, by the same prefix or a longer one; what waits for it goes to the new owner alone.
func TestPrefixMoves(t *testing.T) {
	moving := in4(200)
	tests := []struct{ before, after netip.Prefix }{
		{netip.PrefixFrom(moving, 32), netip.PrefixFrom(moving, 32)},
		{netip.PrefixFrom(moving, 32), netip.PrefixFrom(moving, 29).Masked()},
	}
	for _, tt := range tests {
		inWorld(t, 1, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
			a, b, c, kdc := w.stations["a"], w.stations["b"], w.stations["c"], w.kdcs[0]
			gives := func(name string, prefix netip.Prefix) {
				kdc.mu.Lock()
				defer kdc.mu.Unlock()
				l := kdc.lines[name]
				l.who.prefixes = append(l.who.prefixes[:2:2], prefix)
				kdc.keys[l.keyID] = l.who
			}
			gives("b", tt.before)
			kdc.set(func(s *script) {
				s.terms = func(x *control.Terms) { x.Selectors = discard }
			})
			to := func(port uint16) []byte {
				return fake.UDPPacket(netip.AddrPortFrom(a.in4, 40000), netip.AddrPortFrom(moving, port), []byte("where?"))
			}
			a.host.TUN.Inject(to(9))
			b.wants(to(9))

			newer := control.AsOf{Epoch: 1, Revision: 2}
			gives("b", netip.PrefixFrom(b.in4, 32))
			gives("c", tt.after)
			kdc.set(func(s *script) { s.asOf, s.terms = newer, nil })
			config := a.acq.config
			config.AsOf = newer
			kdc.tell("a", &control.Update{Config: config})
			synctest.Wait()
			for range 20 {
				a.host.TUN.Inject(to(10))
				c.wants(to(10))
			}
			b.wants()
			if n := len(heard[*control.KeyRequest](kdc, "a")); n != 2 {
				t.Errorf("%d requests, want one for each owner", n)
			}
			a.in(func(acq *acquirer) {
				p, _ := acq.out.classify(fake.Frame(to(11)))
				acq.holds.hold(p.Flow, fake.Frame(to(11)))
				if n := acq.step4Release(acq.peers["b"].sessions[0]); n != 0 {
					t.Errorf("%d frames are released to the old owner", n)
				}
				if n := acq.step4Release(acq.peers["c"].sessions[0]); n != 1 {
					t.Errorf("%d frames are released to the new owner, want 1", n)
				}
			})
			c.wants(to(11))
		})
	}
}

// TestGrantWithoutTheFlow: a grant whose selectors lack the flow it was asked for is an answer; while nothing has
// changed the flow is not asked for again, though the KDC's state goes on.
func TestGrantWithoutTheFlow(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.terms = func(x *control.Terms) { x.Selectors = discard } })
		pkt := datagram(a, b, 10, "not in the selectors")
		for revision := range uint64(10) {
			newer := control.AsOf{Epoch: 1, Revision: 1 + revision}
			kdc.set(func(s *script) { s.asOf = newer })
			kdc.tell("a", &control.Pong{AsOf: newer})
			synctest.Wait()
			a.host.TUN.Inject(pkt)
			a.answered(pkt, packet.AdminProhibited)
		}
		if n := len(heard[*control.KeyRequest](kdc, "a")); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// TestOlderSessionSettlesNothing: a session from before policy's present state, which does not permit a flow, neither
// answers what waits for a newer one nor ends the request for it.
func TestOlderSessionSettlesNothing(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.terms = func(x *control.Terms) { x.Selectors = discard } })
		old, _ := w.connect("a", "b")
		newer := control.AsOf{Epoch: 1, Revision: 2}
		kdc.set(func(s *script) { s.asOf, s.terms, s.hold = newer, nil, true })
		kdc.tell("a", &control.Pong{AsOf: newer})
		synctest.Wait()
		pkt := datagram(a, b, 10, "patience")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		a.in(func(acq *acquirer) {
			acq.step4Release(old)
			if len(acq.attempts) != 1 || !acq.holds.waiting(b.in4) {
				t.Errorf("%d attempts, waiting %v", len(acq.attempts), acq.holds.waiting(b.in4))
			}
		})
		a.wants()
		kdc.release()
		b.wants(pkt)
	})
}

// TestUnprovenIsNotAskedAgain: while a session that permits a flow waits for its proof, packets of that flow take it
// and ask for no further one, though an older, proven session does not permit them.
func TestUnprovenIsNotAskedAgain(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) {
			s.terms = func(x *control.Terms) { x.Selectors = discard }
		})
		w.connect("a", "b")
		newer := control.AsOf{Epoch: 1, Revision: 2}
		kdc.set(func(s *script) { s.asOf, s.terms = newer, nil })
		config := a.acq.config
		config.AsOf = newer
		kdc.tell("a", &control.Update{Config: config})
		synctest.Wait()
		w.net.SetRule(fake.Drop)
		for range 20 {
			a.host.TUN.Inject(datagram(a, b, 10, "into the dark"))
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(heard[*control.KeyRequest](kdc, "a")); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		w.net.SetRule(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		a.host.TUN.Inject(datagram(a, b, 10, "light"))
		b.wants(datagram(a, b, 10, "light"))
	})
}
