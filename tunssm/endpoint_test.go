package tunssm

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestRoaming: the endpoint follows the newest opened frame; a late one from the old address does not move it back.
func TestRoaming(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		old := a.host.UDP.Addr()
		late := seal(t, s, packet.Data, 0, datagram(a, b, 9, "late"))
		elsewhere := netip.MustParseAddrPort("198.51.100.7:1234")
		a.host.UDP.Move(elsewhere)
		pkt := datagram(a, b, 9, "from elsewhere")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
		b.host.UDP.Forge(old, late)
		b.wants(datagram(a, b, 9, "late"))
		if e := b.status().Sessions[0].Endpoint; e != elsewhere {
			t.Fatalf("the endpoint is %v, want %v", e, elsewhere)
		}
		reply := datagram(b, a, 9, "to elsewhere")
		b.host.TUN.Inject(reply)
		a.wants(reply)
	})
}

// TestRekeyKeepsPath: a rekey after roaming goes on to where the peer is, though the KDC names where it was; and loses
// nothing of a flow in the middle of which it comes.
func TestRekeyKeepsPath(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		first, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		b.host.UDP.Move(netip.MustParseAddrPort("198.51.100.7:1234"))
		b.host.TUN.Inject(datagram(b, a, 9, "I have moved"))
		a.received()
		var sent [][]byte
		for i := range 200 {
			pkt := datagram(a, b, uint16(i+1), "flow")
			sent = append(sent, pkt)
			a.host.TUN.Inject(pkt)
			if i == 100 {
				a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			}
		}
		got := b.received()
		slices.SortFunc(got, bytes.Compare)
		slices.SortFunc(sent, bytes.Compare)
		if !slices.EqualFunc(got, sent, bytes.Equal) {
			t.Fatalf("%d of %d packets arrive", len(got), len(sent))
		}
		second := a.sending("b")
		if second == first || second.order != first.order+1 || a.state(first) != superseded {
			t.Fatal("the second session has not replaced the first")
		}
	})
}

// TestPeerRestarted: a new boot's session wins over the old one whatever the order, and is confirmed from elsewhere.
func TestPeerRestarted(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		for range 3 {
			w.connect("a", "b")
			w.stations["a"].in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			synctest.Wait()
		}
		a := w.stations["a"]
		old := a.sending("b")
		w.net.SetRule(fake.Drop) // b's goodbye is lost
		w.restart("b")
		w.net.SetRule(nil)
		b := w.stations["b"]
		pkt := datagram(b, a, 9, "back again")
		b.host.TUN.Inject(pkt)
		a.wants(pkt)
		if s := a.sending("b"); s == old || s.order != 1 || a.state(old) != superseded {
			t.Fatalf("a sends on a session of order %d", s.order)
		}
		reply := datagram(a, b, 9, "welcome back")
		a.host.TUN.Inject(reply)
		b.wants(reply)
	})
}

// TestUnheardBoot: the offer of a peer's new run takes its endpoint away before its first frame tells the new one. What
// is sent meanwhile must not fail harder than a lost frame.
func TestUnheardBoot(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.connect("b", "a")
		w.kdcs[0].set(func(s *script) { s.offer = func(o *control.KeyOffer) { o.Candidates = nil } })
		w.net.SetRule(fake.Drop)
		w.restart("b")
		b := w.stations["b"]
		a.in(func(acq *acquirer) {
			acq.sessionByID(a.acq.peers["b"].sessions[0].id).candidates.Store(new([]netip.AddrPort))
		})
		b.host.TUN.Inject(datagram(b, a, 9, "unheard"))
		synctest.Wait()
		a.host.TUN.Inject(datagram(a, b, 9, "to nowhere"))
		a.drops(dropSend, 1)
		w.net.SetRule(nil)
		time.Sleep(5 * time.Second)
		pkt := datagram(a, b, 9, "heard at last")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
	})
}

// TestCandidates: until the peer has been heard, held packets go to every candidate and later ones to the first.
func TestCandidates(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		first, third := netip.MustParseAddrPort("198.51.100.1:7601"), netip.MustParseAddrPort("[2001:db8::1]:7601")
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{first, b.host.UDP.Addr(), third} }
		})
		w.net.SetRule(func(d fake.Datagram) []fake.Delivery {
			return []fake.Delivery{{Payload: d.Payload, After: time.Millisecond}}
		})
		sentTo := func() (list []netip.AddrPort) {
			for _, d := range w.net.Sent() {
				if d.Src == a.host.UDP.Addr() {
					list = append(list, d.Dst)
				}
			}
			return list
		}
		held, next, later := datagram(a, b, 9, "held"), datagram(a, b, 9, "next"), datagram(a, b, 9, "later")
		a.host.TUN.Inject(held)
		synctest.Wait()
		a.host.TUN.Inject(next)
		synctest.Wait()
		if got, want := sentTo(), []netip.AddrPort{first, b.host.UDP.Addr(), third, first}; !slices.Equal(got, want) {
			t.Fatalf("sent to %v, want %v", got, want)
		}
		time.Sleep(10 * time.Millisecond)
		b.wants(held)
		a.host.TUN.Inject(later)
		time.Sleep(10 * time.Millisecond)
		b.wants(later)
		if got := sentTo(); got[len(got)-1] != b.host.UDP.Addr() {
			t.Fatalf("sent to %v", got)
		}
	})
}

// TestMovedCandidates: what the KDC says of a peer's new addresses serves the session that is not yet proven.
func TestMovedCandidates(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{stranger} }
		})
		a.host.TUN.Inject(datagram(a, b, 9, "astray"))
		synctest.Wait()
		w.kdcs[0].tell("a", &control.Endpoint{Peer: "b", Candidates: []netip.AddrPort{b.host.UDP.Addr()}})
		time.Sleep(time.Second)
		if s := a.sending("b"); s == nil || a.state(s) != confirmed {
			t.Fatal("the session is not proven at the new address")
		}
	})
}

// TestRoam decides for one frame whether the endpoint follows it.
func TestRoam(t *testing.T) {
	here, there := underlay(1), stranger
	older, newer, other := control.SessionID{1}, control.SessionID{2}, control.Boot{2}
	tests := []struct {
		name    string
		now     *netip.AddrPort
		sending *session // nil for none
		self    bool     // sending is the frame's session
		counter packet.Counter
		moves   bool
	}{
		{"first heard", nil, &session{id: newer}, false, 5, true},
		{"no session to send on", &here, nil, false, 5, true},
		{"on the session in use", &here, nil, true, 5, true},
		{"late frame", &here, nil, true, 4, false},
		{"an older session in use", &here, &session{id: older}, false, 5, true},
		{"a newer session in use", &here, &session{id: newer}, false, 5, false},
		{"another run's session in use", &here, &session{id: newer, boot: other}, false, 5, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := new(peer)
			s := &session{peer: p, id: control.SessionID{1, 1}}
			s.newest.Store(5)
			p.endpoint.Store(tt.now)
			if tt.self {
				tt.sending = s
			}
			p.sending.Store(tt.sending)
			(&inbound{frames: []packet.Frame{{FrameHeader: packet.FrameHeader{Counter: tt.counter}}}}).roam(s, there)
			if got := p.endpoint.Load(); (got != nil && *got == there) != tt.moves {
				t.Errorf("the endpoint is %v", got)
			}
		})
	}
}

// TestTarget: where data and probes go.
func TestTarget(t *testing.T) {
	here, one, two := stranger, underlay(1), underlay(2)
	tests := []struct {
		name       string
		endpoint   *netip.AddrPort
		candidates []netip.AddrPort
		heard      bool
		target     netip.AddrPort
		everywhere []netip.AddrPort
	}{
		{"unheard", nil, []netip.AddrPort{one, two}, false, one, []netip.AddrPort{one, two}},
		{"heard on another session", &here, []netip.AddrPort{one}, false, one, []netip.AddrPort{here, one}},
		{"heard, and a candidate", &two, []netip.AddrPort{one, two}, false, one, []netip.AddrPort{one, two}},
		{"heard", &here, []netip.AddrPort{one}, true, here, []netip.AddrPort{here, one}},
		{"no candidates", &here, nil, false, here, []netip.AddrPort{here}},
		{"nothing known", nil, nil, true, netip.AddrPort{}, nil},
	}
	for _, tt := range tests {
		s := &session{peer: new(peer)}
		s.peer.endpoint.Store(tt.endpoint)
		s.candidates.Store(&tt.candidates)
		if tt.heard {
			s.heard.Store(1)
		}
		if got := s.target(); got != tt.target {
			t.Errorf("%s: target %v, want %v", tt.name, got, tt.target)
		}
		if got := s.everywhere(); !slices.Equal(got, tt.everywhere) {
			t.Errorf("%s: everywhere %v, want %v", tt.name, got, tt.everywhere)
		}
	}
}

// TestUnprovenBoot: a session with a peer's new run does not drain that with the old one before it is proven; and where
// the old run was heard from says nothing about where the new one is.
func TestUnprovenBoot(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		old, _ := w.connect("a", "b")
		a := w.stations["a"]
		w.net.SetRule(fake.Drop)
		w.restart("b")
		ask := func() {
			a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			synctest.Wait()
		}
		w.kdcs[0].set(func(s *script) { s.grant = func(g *control.KeyGrant) { g.Candidates = nil } })
		ask()
		if n := len(a.sessions("b")); n != 1 {
			t.Fatalf("%d sessions, the last without a place to send to", n)
		}
		w.kdcs[0].set(func(s *script) { s.grant = nil })
		ask()
		if n, is := len(a.sessions("b")), a.state(old); n != 2 || is == superseded {
			t.Fatalf("%d sessions, the old one %v", n, is)
		}
	})
}

// TestCandidatesAndRoutes: only a route that the host accepted keeps a candidate from use, and for as long as it is there.
func TestCandidatesAndRoutes(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		revision := uint64(1)
		routes := func(list ...netip.Prefix) {
			revision++
			now := control.AsOf{Epoch: 1, Revision: revision}
			w.kdcs[0].set(func(s *script) { s.asOf = now })
			config := a.acq.config
			config.AsOf, config.Routes = now, list
			w.kdcs[0].tell("a", &control.Update{Config: config})
			synctest.Wait()
		}
		lan := netip.PrefixFrom(underlay(0).Addr(), 24).Masked() // both hosts are on it
		a.host.Route.Refuse(lan, errors.New("the host itself is there"))
		routes(lan)
		s, _ := w.connect("a", "b")
		if got := *s.candidates.Load(); !slices.Contains(got, b.host.UDP.Addr()) {
			t.Fatalf("a refused route leaves candidates %v", got)
		}
		a.host.Route.Accept(lan)
		a.host.Route.Force(lan)
		routes()
		routes(lan)
		if got := *s.candidates.Load(); len(got) != 0 {
			t.Fatalf("an accepted route leaves candidates %v", got)
		}
		routes()
		if got := *s.candidates.Load(); !slices.Contains(got, b.host.UDP.Addr()) {
			t.Fatalf("a route that is gone leaves candidates %v", got)
		}
	})
}

// TestEndpointsCross: an endpoint that an older frame has stored last, as two queues may, holds until the next frame.
func TestEndpointsCross(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		_, y := w.connect("a", "b")
		old := stranger
		y.peer.endpoint.Store(&old)
		w.send("a", "b", "next")
		if e := *y.peer.endpoint.Load(); e != underlay(1) {
			t.Errorf("the endpoint is %v", e)
		}
	})
}
