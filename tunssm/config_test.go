package tunssm

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestConfiguration: what Welcome and Update say reaches the host; what is older does not.
func TestConfiguration(t *testing.T) {
	inWorld(t, 2, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		st := a.host.Route.State()
		if st.Configured != 1 || !slices.Equal(st.Addresses, []netip.Addr{a.in4, a.in6}) || len(st.Overlays) != 2 {
			t.Fatalf("%+v", st)
		}
		lan, taken := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("203.0.113.0/24")
		a.host.Route.Refuse(taken, errors.New("it covers a KDC"))
		config := a.acq.config
		config.AsOf, config.Routes = control.AsOf{Epoch: 1, Revision: 5}, []netip.Prefix{lan, taken}
		w.kdcs[0].tell("a", &control.Update{Config: config})
		synctest.Wait()
		st = a.host.Route.State()
		if st.Configured != 1 || !slices.Equal(st.Routes, []netip.Prefix{lan}) {
			t.Fatalf("%+v", st)
		}
		if kdc := netip.MustParseAddr("203.0.113.1"); !slices.Contains(st.Avoid, kdc) {
			t.Fatalf("the KDC's address is not avoided: %v", st.Avoid)
		}
		routes := a.status().Routes
		if len(routes) != 2 || routes[0].Refused != "" || routes[1].Refused != "it covers a KDC" {
			t.Fatalf("%+v", routes)
		}
		config.AsOf, config.Routes = control.AsOf{Epoch: 1, Revision: 4}, nil
		w.kdcs[1].tell("a", &control.Update{Config: config})
		synctest.Wait()
		if st = a.host.Route.State(); !slices.Equal(st.Routes, []netip.Prefix{lan}) {
			t.Fatalf("an older Update was taken: %+v", st)
		}
	})
}

// TestConfigureFails: the fault shows, and the next Update tries again.
func TestConfigureFails(t *testing.T) {
	inWorld(t, 1, nil, func(t *testing.T, w *world) {
		a := w.prepare("a", 1)
		a.host.Route.FailConfigure(errors.New("not permitted"))
		a.run(a.identity)
		if st := a.status(); st.Ready || st.Fault != "not permitted" {
			t.Fatalf("ready %v, fault %q", st.Ready, st.Fault)
		}
		a.host.Route.FailConfigure(nil)
		config := w.kdcs[0].line("a").who.config
		config.AsOf = control.AsOf{Epoch: 1, Revision: 1}
		w.kdcs[0].tell("a", &control.Update{Config: config})
		if st := a.status(); !st.Ready || st.Fault != "" || a.host.Route.State().Configured != 2 {
			t.Fatalf("ready %v, fault %q", st.Ready, st.Fault)
		}
	})
}

// TestKDCList: a changed list of KDCs is learnt, dialed, and the ones that left it are let go.
func TestKDCList(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		third := newCenter(t, w.net, kdcAddress(2))
		third.mu.Lock()
		third.keys = w.kdcs[0].keys
		third.mu.Unlock()
		list := []string{kdcAddress(2), kdcAddress(1)}
		config := a.acq.config
		config.AsOf, config.KDCs = control.AsOf{Epoch: 1, Revision: 2}, list
		w.kdcs[0].tell("a", &control.Update{Config: config})
		synctest.Wait()
		if len(a.learned()) != 1 || !slices.Equal(a.learned()[0], list) {
			t.Fatalf("learned %v", a.learned())
		}
		st := a.status()
		if len(st.KDCs) != 2 || st.KDCs[0].Address != list[0] || !st.KDCs[0].Connected || !st.KDCs[1].Connected {
			t.Fatalf("%+v", st.KDCs)
		}
		if n := len(heard[*control.Hello](w.kdcs[1], "a")); n != 1 {
			t.Errorf("the KDC that stays was dialed %d times", n)
		}
		if w.kdcs[0].linesOf("a")[0].conn.Err() == nil {
			t.Error("the KDC that left the list is still connected")
		}
	})
}

// TestUnknownMessage is answered with a Refusal and otherwise ignored.
func TestUnknownMessage(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].tell("a", &control.Lookup{Name: "b"})
		w.kdcs[0].tell("a", &control.Ping{})
		w.kdcs[0].tell("a", &control.Endpoint{Peer: "nobody"})
		w.kdcs[0].tell("a", &control.KeyGrant{
			A: control.Party{Name: "a"}, B: control.Party{Name: "b"}, K: make([]byte, 32),
		})
		synctest.Wait()
		refusals := heard[*control.Refusal](w.kdcs[0], "a")
		if len(refusals) != 1 || refusals[0].Refused != control.TypeLookup || refusals[0].Reason != control.Unsupported {
			t.Fatalf("%v", refusals)
		}
		if pongs := heard[*control.Pong](w.kdcs[0], "a"); len(pongs) != 1 {
			t.Fatalf("%d pongs", len(pongs))
		}
		w.connect("a", "b")
	})
}

// TestWrongKDCList: addresses that do not work cost nothing: the links that worked stay and nothing is learnt,
// through a change of connection too; correcting the list ends the vain dialing; a list that works is followed.
func TestWrongKDCList(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		good := []string{kdcAddress(0), kdcAddress(1)}
		tell := func(revision uint64, list ...string) {
			for _, c := range w.kdcs {
				c.set(func(s *script) { s.asOf = control.AsOf{Epoch: 1, Revision: revision} })
			}
			config := a.acq.config
			config.AsOf, config.KDCs = control.AsOf{Epoch: 1, Revision: revision}, list
			w.kdcs[0].tell("a", &control.Update{Config: config})
			synctest.Wait()
		}
		links := func(want ...string) {
			t.Helper()
			var got []string
			for _, k := range a.status().KDCs {
				got = append(got, k.Address)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("links to %v, want %v", got, want)
			}
		}
		tell(2, kdcAddress(7))
		tell(3, kdcAddress(8), kdcAddress(9))
		links(kdcAddress(8), kdcAddress(9), good[0], good[1])
		w.net.Cut(kdcAddress(0))
		w.net.Cut(kdcAddress(1))
		time.Sleep(lastBackoff * 2)
		links(kdcAddress(8), kdcAddress(9), good[0], good[1])
		if st := a.status(); !st.KDCs[2].Connected || !st.KDCs[3].Connected || len(a.learned()) != 0 {
			t.Fatalf("%+v, learned %v", st.KDCs, a.learned())
		}
		w.connect("a", "b")
		tell(4, good...)
		links(good...)
		if len(a.learned()) != 0 {
			t.Fatalf("learned %v", a.learned())
		}

		third := newCenter(t, w.net, kdcAddress(2))
		third.mu.Lock()
		third.keys = w.kdcs[0].keys
		third.mu.Unlock()
		third.set(func(s *script) { s.asOf = control.AsOf{Epoch: 1, Revision: 5} })
		w.net.Refuse(kdcAddress(2), true)
		tell(5, kdcAddress(2))
		links(kdcAddress(2), good[0], good[1])
		w.net.Refuse(kdcAddress(2), false)
		time.Sleep(lastBackoff * 2)
		links(kdcAddress(2))
		if len(a.learned()) != 1 || !slices.Equal(a.learned()[0], []string{kdcAddress(2)}) {
			t.Fatalf("learned %v", a.learned())
		}
	})
}
