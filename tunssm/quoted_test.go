package tunssm

import (
	"net/netip"
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
