package tunssm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// offer tells a station of these routes.
func (w *world) offer(name string, prefixes ...string) {
	w.t.Helper()
	s := w.stations[name]
	config := s.acq.config
	config.AsOf, config.Routes = control.AsOf{Epoch: 1, Revision: config.AsOf.Revision + 5}, nil
	for _, p := range prefixes {
		config.Routes = append(config.Routes, netip.MustParsePrefix(p))
	}
	w.kdcs[0].set(func(s *script) { s.asOf = config.AsOf })
	w.kdcs[0].tell(name, &control.Update{Config: config})
	synctest.Wait()
}

// routes checks what has become of each offered route, with why, in the order offered.
func (s *station) routes(want ...string) {
	s.t.Helper()
	var got []string
	for _, r := range s.status().Routes {
		text := r.State
		if r.Refused != "" {
			text += ": " + r.Refused
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("the routes of %s are %q, want %q", s.name, got, want)
	}
}

// TestReroute: what was in the way goes and comes, and so does the route; so with what the operator wants.
func TestReroute(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, lan := w.stations["a"], netip.MustParsePrefix("10.1.0.0/16")
		w.offer("a", "10.1.0.0/16")
		a.routes("installed")
		for _, why := range []error{errors.New("it overlaps eth1"), fmt.Errorf("%w by hand", ErrDeclined)} {
			a.host.Route.Refuse(lan, why)
			if err := a.Reroute(); err != nil {
				t.Fatal(err)
			}
			state := "refused: "
			if errors.Is(why, ErrDeclined) {
				state = "declined: "
			}
			a.routes(state + why.Error())
			a.host.Route.Accept(lan)
			if err := a.Reroute(); err != nil {
				t.Fatal(err)
			}
			a.routes("installed")
		}
		a.end()
		if err := a.Reroute(); !errors.Is(err, ErrEnded) {
			t.Errorf("an SSM that has ended: %v", err)
		}
	})
}

// TestPeerInsideARoute: a route that a peer is heard from inside is withdrawn, and stays so without a session with it; it
// comes back once the peer is heard from elsewhere.
func TestPeerInsideARoute(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.offer("a", "198.51.100.0/24", "10.1.0.0/16")
		a.routes("installed", "installed")
		move := func(to string) {
			at := netip.AddrPortFrom(netip.MustParseAddr(to), control.DefaultFramePort)
			b.host.UDP.Move(at)
			b.host.Route.Move(at.Addr())
			time.Sleep(3 * time.Second)
		}
		move("198.51.100.9")
		a.routes("refused: it covers an underlay address", "installed")
		w.send("a", "b", "the session goes on")
		if err := a.CloseSession("b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(a.sessions("b")) > 0 {
			t.Fatal("the session has not ended")
		}
		a.routes("refused: it covers an underlay address", "installed")
		w.connect("b", "a")
		move("192.0.2.77")
		a.routes("installed", "installed")
		w.send("b", "a", "the session goes on")
		w.offer("a", "10.1.0.0/16")
		a.routes("installed")
		a.in(func(acq *acquirer) {
			if len(acq.inside) > 0 || len(acq.avoided) > 0 {
				t.Errorf("remembered for nothing: %v, %v", acq.inside, acq.avoided)
			}
		})
	})
}

// TestKDCInsideARoute: the route to a KDC does not lead into the tunnel while the KDC is away, or it could never be
// reached again.
func TestKDCInsideARoute(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.offer("a", "203.0.113.0/24")
		a.routes("refused: it covers an underlay address")
		w.kdcs[0].stop()
		time.Sleep(time.Minute)
		a.routes("refused: it covers an underlay address")
		a.in(func(acq *acquirer) { // where a KDC is known by a name, only the last connection tells
			all, at := acq.links.list, acq.links.list[0].at
			acq.links.list = []*link{{address: "kdc.example:7600", at: at}}
			if got, want := acq.avoid(), netip.MustParseAddr("203.0.113.1"); !slices.Equal(got, []netip.Addr{want}) {
				t.Errorf("avoids %v, want %s", got, want)
			}
			acq.links.list = all
		})
		w.kdcs[0].start()
		time.Sleep(time.Minute)
		if !a.status().KDCs[0].Connected {
			t.Error("the KDC is not reached again")
		}
	})
}
