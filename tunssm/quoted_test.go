package tunssm

import (
	"net/netip"
	"slices"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// TestErrorsOfPermittedFlows: where policy permits one port alone, an ICMP error about that flow passes both ways, from
// the peer itself or from what lies behind it; one about another flow does not.
func TestErrorsOfPermittedFlows(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		only := packet.Selectors{{
			Src: netip.PrefixFrom(a.in4, 32), Dst: netip.PrefixFrom(b.in4, 32), Protocol: packet.UDP, Ports: packet.PortRange{Lo: 9, Hi: 9},
		}}
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.Selectors = only } })
		w.connect("a", "b")
		permitted, other := datagram(a, b, 9, "permitted"), datagram(a, b, 10, "not")
		about := func(original []byte) []byte {
			t.Helper()
			e, ok := packet.AppendError(nil, packet.TooBig, 1300, b.in4, original)
			if !ok {
				t.Fatal("no error may be sent")
			}
			return e
		}
		e := about(permitted)
		b.host.TUN.Inject(e)
		a.wants(e)
		b.host.TUN.Inject(about(other))
		a.wants()
		b.drops(dropDenied, 1)

		// What b's SSM lets out against the rules, a's does not let in.
		s := b.sending("a")
		for range 2 {
			e = about(other)
			a.host.UDP.Forge(b.host.UDP.Addr(), seal(t, s, packet.Data, 0, e))
		}
		a.wants()
		a.drops(dropSelector, 2)
		e = about(permitted)
		a.host.UDP.Forge(b.host.UDP.Addr(), seal(t, s, packet.Data, 0, e))
		a.wants(e)
	})
}

// TestErrorsFromLostSubnets: a peer that has lost a subnet sends no error from there either, whatever flow of its own that is
// about.
func TestErrorsFromLostSubnets(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		lan, host := netip.MustParsePrefix("192.168.7.0/24"), netip.MustParseAddr("192.168.7.9")
		here, there := w.connect("a", "b")
		left := toPorts(a, b, packet.UDP, 9)
		a.in(func(acq *acquirer) {
			here.prefixes = append(slices.Clone(here.prefixes), lan)
			into := packet.Selector{Src: left[0].Src, Dst: lan, Protocol: packet.UDP, Ports: packet.AllPorts}
			here.scope.Store(&scope{selectors: append(slices.Clone(left), into), asOf: acq.asOf, whole: true})
			acq.publish()
		})
		e, ok := packet.AppendError(nil, packet.TooBig, 1300, host, datagram(a, b, 9, "permitted"))
		if !ok {
			t.Fatal("no error may be sent")
		}
		forge := func() { a.host.UDP.Forge(b.host.UDP.Addr(), seal(t, there, packet.Data, 0, e)) }
		forge()
		a.wants(e)
		w.narrow(here, left, 2, "a")
		forge()
		a.wants()
		a.drops(dropSelector, 1)
	})
}
