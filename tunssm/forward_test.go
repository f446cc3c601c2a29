package tunssm

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// give tells a station of these subnets of its own.
func (w *world) give(name string, subnets ...string) {
	w.t.Helper()
	config := w.stations[name].acq.config
	config.AsOf, config.Subnets = control.AsOf{Epoch: 1, Revision: config.AsOf.Revision + 5}, nil
	for _, p := range subnets {
		config.Subnets = append(config.Subnets, netip.MustParsePrefix(p))
	}
	w.kdcs[0].set(func(s *script) { s.asOf = config.AsOf })
	w.kdcs[0].tell(name, &control.Update{Config: config})
	synctest.Wait()
}

// forwards checks what the host was told to forward to, and what the status says of each.
func (s *station) forwards(want ...string) {
	s.t.Helper()
	var told, got []string
	for _, p := range s.host.Route.State().Subnets {
		told = append(told, p.String())
	}
	for _, g := range s.status().Gateway {
		got = append(got, strings.TrimSuffix(g.Prefix.String()+" "+g.State+" "+g.Fault, " "))
	}
	var prefixes []string
	for _, w := range want {
		prefix, _, _ := strings.Cut(w, " ")
		prefixes = append(prefixes, prefix)
	}
	if !slices.Equal(got, want) || !slices.Equal(told, prefixes) {
		s.t.Errorf("%s forwards to %q, told %q, want %q", s.name, got, told, want)
	}
}

// TestForward: the host forwards to the subnets that the SSM has, as they come and go, and is asked again where its network
// may have changed; one that it does not reach is no matter of the others. Without subnets it is asked nothing.
func TestForward(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		if err := a.Reroute(); err != nil || a.host.Route.State().Forwarded != 0 {
			t.Errorf("without subnets: %+v, %v", a.host.Route.State(), err)
		}
		lost := netip.MustParsePrefix("10.2.0.0/16")
		a.host.Route.CutOff(lost, errors.New("nothing leads there"))
		w.give("a", "10.1.0.0/16", "10.2.0.0/16")
		a.forwards("10.1.0.0/16 forwarding", "10.2.0.0/16 failed nothing leads there")
		a.host.Route.CutOff(lost, nil)
		time.Sleep(forwardAgain + tendInterval)
		a.forwards("10.1.0.0/16 forwarding", "10.2.0.0/16 forwarding")
		w.give("a", "10.2.0.0/16")
		a.forwards("10.2.0.0/16 forwarding")
		w.give("a")
		a.forwards()
		if n := a.host.Route.State().Forwarded; n != 4 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestNarrowLosesSubnet: where narrowing takes a whole subnet of the peer's away, what goes there is asked for again, since
// another peer may have it now; what else is not permitted is refused as before.
func TestNarrowLosesSubnet(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		s, _ := w.connect("a", "b")
		subnet := netip.MustParsePrefix("10.1.0.0/16")
		left := toPorts(a, b, packet.UDP, 9)
		a.in(func(acq *acquirer) {
			s.prefixes = append(slices.Clone(s.prefixes), subnet)
			s.peer.prefixes = s.prefixes
			into := packet.Selector{Src: left[0].Src, Dst: subnet, Protocol: packet.UDP, Ports: left[0].Ports}
			s.scope.Store(&scope{selectors: append(slices.Clone(left), into), asOf: acq.asOf, whole: true})
			acq.publish()
		})
		w.narrow(s, left, 2, "a")
		w.narrow(s, left, 3, "a") // and what has been lost stays so
		requests := len(heard[*control.KeyRequest](kdc, "a"))
		a.host.TUN.Inject(fake.UDPPacket(netip.AddrPortFrom(a.in4, 40000), netip.MustParseAddrPort("10.1.0.1:9"), []byte("hello")))
		synctest.Wait()
		if got := len(heard[*control.KeyRequest](kdc, "a")); got != requests+1 {
			t.Errorf("asked %d times for the subnet", got-requests)
		}
	})
}
