package tunssm

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// frameOf is a packet as a route would send one of our frames round: from an address and the port of frames to a peer's.
func frameOf(from netip.Addr, port uint16, to netip.AddrPort) []byte {
	return fake.UDPPacket(netip.AddrPortFrom(from, port), to, make([]byte, 100))
}

// TestOwnFrames: what comes from one of this host's addresses and its port is dropped, also where policy would let it
// through; nothing else is.
func TestOwnFrames(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		const own = control.DefaultFramePort
		outside6 := netip.MustParseAddr("2001:db8::1")
		a.host.Route.Move(append(a.host.Route.Candidates(), outside6)...)
		time.Sleep(2 * tendInterval) // which is how often addresses are looked at
		w.connect("a", "b")
		asked, _ := w.requests(0, "a")
		inside, inside6 := netip.AddrPortFrom(b.in4, 9), netip.AddrPortFrom(b.in6, 9)
		for i, pkt := range [][]byte{
			frameOf(a.in4, own, inside), frameOf(a.in6, own, inside6), // which a grant permits
			frameOf(a.in4, own, b.host.UDP.Addr()), frameOf(underlay(1).Addr(), own, b.host.UDP.Addr()),
			frameOf(underlay(1).Addr(), own, inside), frameOf(outside6, own, inside6),
		} {
			a.host.TUN.Inject(pkt)
			a.drops(dropLoop, uint64(i+1))
			b.wants()
		}
		for _, pkt := range [][]byte{
			frameOf(a.in4, own+1, inside), // another program's
			fake.TCPPacket(netip.AddrPortFrom(a.in4, own), inside, 1, 0, nil),
		} {
			a.host.TUN.Inject(pkt)
			b.wants(pkt)
		}
		a.host.TUN.Inject(frameOf(netip.MustParseAddr("10.9.9.9"), own, inside)) // of a host behind this one
		a.drops(dropLoop, 6)
		b.drops(dropSource, 1)
		if now, _ := w.requests(0, "a"); len(now) != len(asked) {
			t.Errorf("%d requests for our own frames", len(now)-len(asked))
		}
		a.wants() // no answer
	})
}

// TestOwnFramesAllocateNothing: the check is made for every packet.
func TestOwnFramesAllocateNothing(t *testing.T) {
	out, _, _ := pathPair(t)
	out.origin.Store(&origin{7601, map[netip.Addr]bool{in4(1): true}})
	for _, port := range []uint16{7601, 40000} {
		frame := fake.Frame(frameOf(in4(1), port, netip.AddrPortFrom(in4(2), 9)))
		if n := testing.AllocsPerRun(100, func() {
			if _, ok := out.classify(frame); ok == (port == 7601) {
				t.Fatalf("port %d: %v", port, ok)
			}
		}); n != 0 {
			t.Errorf("port %d: %v allocations", port, n)
		}
	}
}

// TestOwnFragments: a frame that was cut is known by its first fragment.
func TestOwnFragments(t *testing.T) {
	o := origin{7601, map[netip.Addr]bool{in4(1): true}}
	first := frameOf(in4(1), 7601, underlay(2))
	first[6] = 0x20 // more fragments
	p, err := packet.Parse(first)
	if err != nil || !p.Fragment || !o.sent(p.Flow) {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestCandidateInside: a candidate that the host, by whatever route, sends into the interface is left out while it does.
func TestCandidateInside(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		other := netip.MustParseAddrPort("[2001:db8::1]:7601")
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{b.host.UDP.Addr(), other} }
		})
		s, _ := w.connect("a", "b")
		lead := func(want []netip.AddrPort, routes ...netip.Prefix) {
			t.Helper()
			a.host.Route.Divert(routes...)
			if err := a.Reroute(); err != nil {
				t.Fatal(err)
			}
			if got := *s.candidates.Load(); !slices.Equal(got, want) {
				t.Errorf("with %v: %v, want %v", routes, got, want)
			}
		}
		lead([]netip.AddrPort{other}, netip.PrefixFrom(b.host.UDP.Addr().Addr(), 32))
		lead([]netip.AddrPort{b.host.UDP.Addr()}, netip.MustParsePrefix("::/0"))
		lead(nil, netip.MustParsePrefix("::/0"), netip.MustParsePrefix("0.0.0.0/0"))
		lead([]netip.AddrPort{b.host.UDP.Addr(), other})
	})
}

// TestKDCInside: a connection to a KDC that the host has come to route into the interface ends, and sessions do not.
func TestKDCInside(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.connect("a", "b")
		before := a.status()
		a.host.Route.Divert(netip.MustParsePrefix("203.0.113.1/32"))
		w.net.Refuse(kdcAddress(0), true) // as Dial would
		if err := a.Reroute(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if k := a.status().KDCs[0]; k.Connected || k.Fault == "" {
			t.Errorf("%+v", k)
		}
		pkt := datagram(a, b, 9, "all the same")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
		a.host.Route.Divert()
		w.net.Refuse(kdcAddress(0), false)
		time.Sleep(2 * time.Second)
		if st := a.status(); !st.KDCs[0].Connected || st.Sessions[0].ID != before.Sessions[0].ID {
			t.Errorf("%+v", st)
		}
	})
}

// TestElsewhere: a peer whose endpoint the host has come to route into the tunnel is sent to by another candidate.
func TestElsewhere(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		here, other := b.host.UDP.Addr(), netip.MustParseAddrPort("[2001:db8::1]:7601")
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{here, other} }
		})
		s, _ := w.connect("a", "b")
		for _, tt := range []struct {
			want   netip.AddrPort
			routes []netip.Prefix
		}{
			{here, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}, // there is no other
			{other, []netip.Prefix{netip.PrefixFrom(here.Addr(), 32)}},
		} {
			a.host.Route.Divert(tt.routes...)
			a.host.TUN.Inject(frameOf(underlay(1).Addr(), control.DefaultFramePort, here))
			time.Sleep(2 * tendInterval)
			if got := s.target(); got != tt.want {
				t.Errorf("with %v in the tunnel: frames go to %v, want %v", tt.routes, got, tt.want)
			}
		}
	})
}

// TestLoopIsTold: once when frames begin to come back, and with the peer that they were for.
func TestLoopIsTold(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.connect("a", "b")
		told := lines{}
		a.in(func(acq *acquirer) { acq.log = slog.New(told) })
		a.host.Route.Divert(netip.PrefixFrom(b.host.UDP.Addr().Addr(), 32))
		time.Sleep(tendInterval / 2) // between two looks at the counter
		for range 2 {
			for range 3 {
				a.host.TUN.Inject(frameOf(underlay(1).Addr(), control.DefaultFramePort, b.host.UDP.Addr()))
				time.Sleep(tendInterval)
			}
			time.Sleep(quietLoop)
		}
		a.in(func(*acquirer) {
			if n := told["frames to a peer come back: the host routes its endpoint into the tunnel"]; n != 2 {
				t.Errorf("told %d times of 2 loops", n)
			}
		})
	})
}

// TestLinkLocalSource: nothing is taken from a link-local address, so none becomes an endpoint.
func TestLinkLocalSource(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.connect("a", "b")
		var frame []byte
		w.net.SetRule(func(d fake.Datagram) []fake.Delivery {
			frame = d.Payload
			return nil
		})
		pkt := datagram(a, b, 9, "by way of the link")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		b.host.UDP.Forge(netip.MustParseAddrPort("[fe80::1%eth0]:7601"), frame)
		b.drops(dropLinkLocal, 1)
		b.wants()
		b.host.UDP.Forge(a.host.UDP.Addr(), frame) // which it was not spent for
		b.wants(pkt)
	})
}

// TestEndpointInside: a configured endpoint inside an overlay is told nobody.
func TestEndpointInside(t *testing.T) {
	a := acquirer{whereabouts: whereabouts{endpoint: netip.MustParseAddrPort("100.80.0.1:7601")}}
	if a.fixed() != a.endpoint {
		t.Error("not told before any overlay is known")
	}
	a.config.Overlays = []netip.Prefix{netip.MustParsePrefix("100.80.0.0/16")}
	if a.fixed().IsValid() {
		t.Error("told")
	}
}
