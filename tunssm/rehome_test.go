package tunssm

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestRehome: a host whose address changes tells the KDCs and shows its peers where it is; the session goes on.
func TestRehome(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		elsewhere := netip.MustParseAddrPort("198.51.100.9:7601")
		b.host.UDP.Move(elsewhere)
		b.host.Route.Move(elsewhere.Addr())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := s.peer.endpoint.Load(); *got != elsewhere {
			t.Errorf("a sends to %s, want %s", got, elsewhere)
		}
		w.send("a", "b", "after the move")
		if a.sending("b") != s {
			t.Error("the move cost the session")
		}
		for i, kdc := range w.kdcs {
			reaches := 0
			for _, m := range heard[*control.Endpoint](kdc, "b") {
				if m.Reach != nil && m.Reach.Addresses[0] == elsewhere.Addr() {
					reaches++
				}
			}
			for _, m := range heard[*control.Hello](kdc, "b") {
				if m.Reach.Addresses[0] == elsewhere.Addr() {
					reaches++
				}
			}
			if reaches != 1 {
				t.Errorf("KDC %d was told %d times, want once", i, reaches)
			}
		}
	})
}

// TestAwayForAMoment: an address that is away while a KDC hears Hello, and back before anybody has noticed, is told.
func TestAwayForAMoment(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		home, other := a.host.Route.Candidates(), netip.MustParseAddr("198.51.100.9")
		a.host.Route.Move(append(home, other)...)
		time.Sleep(2*tendInterval + tendInterval/10)
		before := len(heard[*control.Endpoint](kdc, "a"))
		kdc.stop()
		kdc.start()
		a.host.Route.Move(home...)
		time.Sleep(tendInterval / 2)
		synctest.Wait()
		if len(heard[*control.Hello](kdc, "a")) != 2 {
			t.Fatal("no second Hello")
		}
		a.host.Route.Move(append(home, other)...)
		time.Sleep(2 * tendInterval)
		synctest.Wait()
		last := heard[*control.Hello](kdc, "a")[1].Reach
		if told := heard[*control.Endpoint](kdc, "a")[before:]; len(told) > 0 {
			last = *told[len(told)-1].Reach
		}
		if !slices.Contains(last.Addresses, other) {
			t.Errorf("the KDC knows %v", last.Addresses)
		}
	})
}

// TestTemporaryAddress: an address goes that no KDC was told of. The peers are shown where we are all the same.
func TestTemporaryAddress(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		b := w.stations["b"]
		temporary, lasting := netip.MustParseAddrPort("[2001:db8::77]:7601"), netip.MustParseAddrPort("[2001:db8::1]:7601")
		b.host.Route.Hide(temporary.Addr())
		b.host.UDP.Move(temporary)
		time.Sleep(2 * tendInterval)
		s, _ := w.connect("b", "a")
		synctest.Wait()
		at := w.stations["a"].sending("b").peer
		if got := at.endpoint.Load(); *got != temporary {
			t.Fatalf("a sends to %s, want %s", got, temporary)
		}
		b.host.Route.Hide()
		b.host.UDP.Move(lasting)
		time.Sleep(2 * tendInterval)
		synctest.Wait()
		if got := at.endpoint.Load(); *got != lasting || b.sending("a") != s {
			t.Errorf("a sends to %s, want %s", got, lasting)
		}
	})
}

// TestOtherFamily: a host loses the family by which it heard its peer, which has an address of the other, too.
func TestOtherFamily(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		four, six, elsewhere := a.host.UDP.Addr(), netip.MustParseAddrPort("[2001:db8::1]:7601"), netip.MustParseAddrPort("[2001:db8::2]:7601")
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{four, six} }
		})
		s, other := w.connect("b", "a")
		w.net.SetRule(func(d fake.Datagram) []fake.Delivery { // what is sent to one family comes to the socket of the other
			if d.Src == elsewhere && d.Dst == six {
				a.host.UDP.Forge(elsewhere, d.Payload)
			}
			return nil
		})
		b.host.UDP.Move(elsewhere)
		b.host.Route.Move(elsewhere.Addr())
		time.Sleep(2 * tendInterval)
		synctest.Wait()
		if got := other.peer.endpoint.Load(); *got != elsewhere || b.sending("a") != s {
			t.Errorf("a sends to %s, want %s", got, elsewhere)
		}
	})
}

func TestStranded(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for local, want := range map[string]bool{
		"192.0.2.1": false, "2001:db8::1": false, "127.0.0.1": false, "::1": false, "192.0.2.9": true,
	} {
		if got := stranded(&net.TCPAddr{IP: net.ParseIP(local)}, own); got != want {
			t.Errorf("%s: %v, want %v", local, got, want)
		}
	}
	if stranded(&net.UnixAddr{}, own) {
		t.Error("stranded without knowing")
	}
}

// TestRehomeInTheDark: where the path from the new address does not carry yet, the peer is shown again until it answers.
func TestRehomeInTheDark(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		b := w.stations["b"]
		elsewhere := netip.MustParseAddrPort("198.51.100.9:7601")
		w.net.SetRule(fake.Drop)
		b.host.UDP.Move(elsewhere)
		b.host.Route.Move(elsewhere.Addr())
		time.Sleep(3 * time.Second)
		w.net.SetRule(nil)
		time.Sleep(tendInterval)
		synctest.Wait()
		if got := s.peer.endpoint.Load(); *got != elsewhere {
			t.Errorf("a sends to %s, want %s", got, elsewhere)
		}
		shown := len(w.net.Sent())
		time.Sleep(deadAfter)
		synctest.Wait()
		if more := len(w.net.Sent()) - shown; more != 0 {
			t.Errorf("%d datagrams after the answer", more)
		}
	})
}

// TestLostBehindRouter: a router gives the receiving side another port when that has nothing more to say. The sending side
// hears nothing, acquires anew, and learns with it where the other is, though no KDC knows.
func TestLostBehindRouter(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		time.Sleep(keepaliveAfter + tendInterval)
		b.host.UDP.Move(netip.MustParseAddrPort("198.51.100.9:1234"))
		for range int((deadAfter + 2*tendInterval) / time.Second) {
			a.host.TUN.Inject(datagram(a, b, 9, "lost"))
			time.Sleep(time.Second)
		}
		b.received()
		w.send("a", "b", "found again")
	})
}
