package tunssm

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestGrantRules: a grant that breaks a rule of the exchange installs nothing; the held packet is answered. The KDC, which
// takes the session for one of ours, hears that it is closed.
func TestGrantRules(t *testing.T) {
	tests := []struct {
		name   string
		grant  func(*control.KeyGrant)
		silent bool // the grant is not for the attempt, which goes on until its time is over
	}{
		{"foreign na", func(g *control.KeyGrant) { g.Na[0]++ }, true},
		{"for another boot", func(g *control.KeyGrant) { g.A.Boot[0]++ }, false},
		{"for another SPI", func(g *control.KeyGrant) { g.A.SPI++ }, false},
		{"destination not covered", func(g *control.KeyGrant) {
			g.B.Prefixes = []netip.Prefix{netip.MustParsePrefix("100.80.0.3/32")}
		}, false},
		{"peer is ourselves", func(g *control.KeyGrant) { g.B.Name = "a" }, false},
		{"peer claims our addresses", func(g *control.KeyGrant) {
			g.B.Prefixes = []netip.Prefix{netip.MustParsePrefix("100.80.0.0/16")}
		}, false},
		{"stale", func(g *control.KeyGrant) { g.Terms.AsOf = control.AsOf{Epoch: 1} }, false},
		{"no order", func(g *control.KeyGrant) { g.Order = 0 }, false},
		{"order out of range", func(g *control.KeyGrant) { g.Order = maxOrder + 1 }, false},
		{"no SPI", func(g *control.KeyGrant) { g.B.SPI = 0 }, false},
		{"short K", func(g *control.KeyGrant) { g.K = g.K[:31] }, false},
		{"unknown suite", func(g *control.KeyGrant) { g.Suite = 77 }, false},
		{"no candidates", func(g *control.KeyGrant) { g.Candidates = nil }, false},
		{"candidates inside the tunnel", func(g *control.KeyGrant) {
			g.Candidates = []netip.AddrPort{netip.MustParseAddrPort("100.80.9.9:7601")}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				a, b := w.stations["a"], w.stations["b"]
				var granted control.SessionID
				w.kdcs[0].set(func(s *script) {
					s.grant = func(g *control.KeyGrant) { granted = g.Session; tt.grant(g) }
				})
				pkt := datagram(a, b, 9, "never")
				a.host.TUN.Inject(pkt)
				if tt.silent {
					a.wants()
					time.Sleep(control.HoldTimeout)
				}
				a.answered(pkt, packet.HostUnreachable)
				b.wants()
				time.Sleep(reportDelay)
				synctest.Wait()
				if !slices.ContainsFunc(heard[*control.SessionReport](w.kdcs[0], "a"), func(r *control.SessionReport) bool {
					return slices.Contains(r.Closed, granted)
				}) {
					t.Error("the KDC is not told")
				}
				a.in(func(acq *acquirer) {
					if len(acq.peers) != 0 || len(acq.table.Load().sessions) != 0 {
						t.Error("something was installed")
					}
				})
				for _, d := range w.net.Sent() {
					if d.Src == a.host.UDP.Addr() {
						t.Errorf("a sends %d bytes to %v", len(d.Payload), d.Dst)
					}
				}
			})
		})
	}
}

// TestGrantFromAnotherKDC is dropped, whatever it says.
func TestGrantFromAnotherKDC(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		stolen := make(chan *control.KeyGrant, 1)
		w.kdcs[0].set(func(s *script) { s.hold, s.grant = true, func(g *control.KeyGrant) { stolen <- g } })
		a.host.TUN.Inject(datagram(a, b, 9, "whose"))
		synctest.Wait()
		w.kdcs[1].line("a").conn.Send(1, <-stolen)
		b.wants()
		if n := len(a.sessions("b")); n != 0 {
			t.Fatalf("%d sessions", n)
		}
	})
}

// TestDeclinedThenInstalled: a session that a stray copy of its grant had us decline is not reported closed once it is live.
func TestDeclinedThenInstalled(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) {
				stray := *g
				w.kdcs[1].tell("a", &stray)
				time.Sleep(reportDelay / 2)
			}
		})
		a, b := w.stations["a"], w.stations["b"]
		a.host.TUN.Inject(datagram(a, b, 9, "once declined"))
		time.Sleep(2 * reportDelay)
		s := a.sending("b")
		if s == nil {
			t.Fatal("no session")
		}
		for _, kdc := range w.kdcs {
			for _, r := range heard[*control.SessionReport](kdc, "a") {
				if slices.Contains(r.Closed, s.id) {
					t.Errorf("%s hears that the session is closed", kdc.address)
				}
			}
		}
	})
}

// TestStaleGrantIsAskedAgain: policy moved on while the grant was on its way; the same KDC is asked again.
func TestStaleGrantIsAskedAgain(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		pkt := datagram(a, b, 9, "patience")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		newer := control.AsOf{Epoch: 1, Revision: 2}
		kdc.tell("a", &control.Pong{AsOf: newer})
		synctest.Wait()
		kdc.set(func(s *script) { s.asOf = newer })
		kdc.release()
		b.wants(pkt)
		q := heard[*control.KeyRequest](kdc, "a")
		if len(q) != 2 || q[1].AsOf != newer {
			t.Fatalf("%d requests, the last as of %v", len(q), q[len(q)-1].AsOf)
		}
	})
}

// TestStaleOffer is answered "behind", and nothing is installed.
func TestStaleOffer(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.tell("b", &control.Pong{AsOf: control.AsOf{Epoch: 2}})
		pkt := datagram(a, b, 9, "behind")
		a.host.TUN.Inject(pkt)
		a.answered(pkt, packet.HostUnreachable)
		d := heard[*control.KeyDenial](kdc, "b")
		if len(d) != 1 || d[0].Reason != control.Behind || len(b.sessions("a")) != 0 {
			t.Fatalf("%+v", d)
		}
	})
}

// TestRevokedBeforeGrant: the revocation overtakes the grant.
func TestRevokedBeforeGrant(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		var id control.SessionID
		kdc.set(func(s *script) { s.hold, s.grant = true, func(g *control.KeyGrant) { id = g.Session } })
		pkt := datagram(a, b, 9, "overtaken")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		kdc.tell("a", &control.Revoke{Sessions: []control.SessionID{id}, Reason: control.Changed})
		synctest.Wait()
		kdc.release()
		a.answered(pkt, packet.HostUnreachable)
		if n := len(a.sessions("b")); n != 0 {
			t.Fatalf("%d sessions", n)
		}
		time.Sleep(revokedFor + time.Millisecond)
		a.in(func(acq *acquirer) {
			if len(acq.revoked) != 0 {
				t.Error("a revoked id is remembered for ever")
			}
		})
	})
}

// TestSilentResponder (rule 5): before the requester's first frame the responder sends nothing but the empty datagrams
// that open a NAT; its packets wait. Unconfirmed, both sides let the session go.
func TestSilentResponder(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a, b, 9, "lost"))
		synctest.Wait()
		b.host.TUN.Inject(datagram(b, a, 9, "waits"))
		time.Sleep(awaitConfirm / 2)
		for _, d := range w.net.Sent() {
			if d.Src == b.host.UDP.Addr() && len(d.Payload) > 0 {
				t.Fatalf("the responder sends %d bytes before the first frame", len(d.Payload))
			}
		}
		if n := len(heard[*control.KeyRequest](kdc, "b")); n != 0 {
			t.Fatal("the responder asks although the session is about to be confirmed")
		}
		if len(a.sessions("b")) != 1 || len(b.sessions("a")) != 1 {
			t.Fatal("no session to be confirmed")
		}
		if st := a.status().Sessions[0]; st.State != "provisional" || st.Role != "requester" {
			t.Fatalf("%+v", st)
		}
		kdc.set(func(s *script) { s.decide = no(control.Denied) })
		time.Sleep(control.ConfirmTimeout)
		if x, y := len(a.sessions("b")), len(b.sessions("a")); x != 0 || y != 0 {
			t.Fatalf("%d and %d sessions are left unconfirmed", x, y)
		}
	})
}

// TestResponderAsksToo: what waits at the responder for a first frame that does not come is asked for after a moment.
func TestResponderAsksToo(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true }) // a never hears of the session that b has installed
		a.host.TUN.Inject(datagram(a, b, 9, "held"))
		synctest.Wait()
		kdc.set(func(s *script) { s.hold = false })
		pkt := datagram(b, a, 9, "impatient")
		b.host.TUN.Inject(pkt)
		a.wants()
		time.Sleep(awaitConfirm)
		a.wants(pkt)
	})
}

// TestLostFirstFrames: the released packet is lost, and the probe, and more; a later probe proves the session.
func TestLostFirstFrames(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a, b, 9, "lost"))
		synctest.Wait()
		time.Sleep(time.Second)
		w.net.SetRule(nil)
		time.Sleep(2 * time.Second)
		st := a.status().Sessions
		if len(st) != 1 || st[0].State != "sending" || st[0].Endpoint != b.host.UDP.Addr() {
			t.Fatalf("%+v", st)
		}
		before := len(w.net.Sent())
		time.Sleep(time.Minute)
		if n := len(w.net.Sent()); n != before {
			t.Fatalf("%d more frames on a proven session", n-before)
		}
		reply := datagram(b, a, 9, "after all")
		b.host.TUN.Inject(reply)
		a.wants(reply)
	})
}

// TestProvisionalDoesNotDrain (rule 5): while a second session is unproven, both sides stay on the first.
func TestProvisionalDoesNotDrain(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		first, _ := w.connect("a", "b")
		var second atomic.Uint32                              // its SPI at b
		w.net.SetRule(func(d fake.Datagram) []fake.Delivery { // of the second session nothing arrives
			if h, err := packet.ParseFrame(d.Payload); err == nil && uint32(h.SPI) == second.Load() {
				return nil
			}
			return fake.Through(d)
		})
		w.kdcs[0].set(func(s *script) { s.grant = func(g *control.KeyGrant) { second.Store(uint32(g.B.SPI)) } })
		a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
		synctest.Wait()
		if n := len(a.sessions("b")); n != 2 || a.sending("b") != first {
			t.Fatalf("%d sessions", n)
		}
		for _, pair := range [][2]*station{{a, b}, {b, a}} {
			pkt := datagram(pair[0], pair[1], 9, "still on the first")
			pair[0].host.TUN.Inject(pkt)
			pair[1].wants(pkt)
		}
		time.Sleep(control.ConfirmTimeout)
		if list := a.sessions("b"); len(list) != 1 || list[0] != first || a.state(first) == superseded {
			t.Fatalf("%d sessions are left", len(list))
		}
	})
}

// TestGlare: both sides ask at once, by a network that delays at random. Nothing is lost, both settle on one session,
// and the other runs out.
func TestGlare(t *testing.T) {
	for seed := range uint64(25) {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
			delay := fake.Impairment{Delay: time.Millisecond, Jitter: 20 * time.Millisecond}
			w.net.SetRule(delay.Rule(seed))
			kdc.set(func(s *script) { s.hold = true })
			ab, ba := datagram(a, b, 9, "from a"), datagram(b, a, 9, "from b")
			a.host.TUN.Inject(ab)
			b.host.TUN.Inject(ba)
			synctest.Wait()
			asked := len(heard[*control.KeyRequest](kdc, "a")) + len(heard[*control.KeyRequest](kdc, "b"))
			kdc.release()
			time.Sleep(time.Second)
			a.wants(ba)
			b.wants(ab)
			x, y := a.sending("b"), b.sending("a")
			if x == nil || y == nil || x.id != y.id {
				t.Fatalf("seed %d: the two sides send on different sessions", seed)
			}
			r := rand.New(rand.NewPCG(seed, 1))
			for range 10 { // while both sessions live
				pair := [2]*station{a, b}
				if r.IntN(2) == 0 {
					pair = [2]*station{b, a}
				}
				pkt := datagram(pair[0], pair[1], 9, "more")
				pair[0].host.TUN.Inject(pkt)
				time.Sleep(time.Second)
				pair[1].wants(pkt)
			}
			if n := len(a.sessions("b")); n != asked {
				t.Fatalf("seed %d: %d sessions of %d requests", seed, n, asked)
			}
			time.Sleep(supersededFor)
			if len(a.sessions("b")) != 1 || len(b.sessions("a")) != 1 || a.sending("b") != x || b.sending("a") != y {
				t.Fatalf("seed %d: a superseded session stays", seed)
			}
			if a.status().Sessions[0].State != "sending" {
				t.Fatalf("%+v", a.status().Sessions)
			}
		})
	}
}

// TestBadPath sends over a path that loses, repeats, reorders and corrupts: what arrives is what was sent, once.
func TestBadPath(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		bad := fake.Impairment{
			Loss: 0.1, Duplicate: 0.2, Corrupt: 0.2, Delay: time.Millisecond, Jitter: 30 * time.Millisecond,
		}
		w.net.SetRule(bad.Rule(7))
		sent := map[string]bool{}
		for i := range 500 {
			pkt := datagram(a, b, uint16(i+1), "through thick and thin")
			sent[string(pkt)] = true
			a.host.TUN.Inject(pkt)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		got := b.received()
		for _, pkt := range got {
			if !sent[string(pkt)] {
				t.Fatalf("a packet arrives twice, or was never sent: %x", pkt)
			}
			delete(sent, string(pkt))
		}
		if len(got) < 300 || len(got) == 500 {
			t.Errorf("%d of 500 packets arrive", len(got))
		}
		drops := b.status().Drops
		for _, why := range []Drop{dropOpen, dropReplay, dropSPI, dropFrame} {
			if drops[why.String()] == 0 {
				t.Errorf("nothing was dropped as %s: %v", why, drops)
			}
		}
	})
}
