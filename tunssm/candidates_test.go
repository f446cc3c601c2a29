package tunssm

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestUselessCandidates: of what a KDC names, nothing inside the overlay is tried, even where the host leads it elsewhere,
// and nothing that is not the address of one host.
func TestUselessCandidates(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		inside := []netip.Addr{in4(77), in6(77)}
		for _, addr := range inside {
			a.host.Route.Lead(netip.PrefixFrom(addr, addr.BitLen()), "eth0")
		}
		list := []netip.AddrPort{b.host.UDP.Addr(), netip.MustParseAddrPort("127.0.0.1:7601")}
		want := slices.Clone(list)
		for _, addr := range append(inside, netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("255.255.255.255"),
			netip.MustParseAddr("169.254.0.1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("0.0.0.0")) {
			list = append(list, netip.AddrPortFrom(addr, 7601))
		}
		a.in(func(acq *acquirer) {
			if got := acq.reachable(list); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	})
}

// TestOpensNAT: on an offer the responder sends one empty datagram to each of the requester's candidates.
func TestOpensNAT(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		candidates := []netip.AddrPort{a.host.UDP.Addr(), stranger}
		w.kdcs[0].set(func(s *script) { s.offer = func(o *control.KeyOffer) { o.Candidates = candidates } })
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a, b, 9, "first"))
		synctest.Wait()
		var empty []netip.AddrPort
		for _, d := range w.net.Sent() {
			if d.Src == b.host.UDP.Addr() && len(d.Payload) == 0 {
				empty = append(empty, d.Dst)
			}
		}
		if !slices.Equal(empty, candidates) {
			t.Errorf("empty datagrams to %v, want %v", empty, candidates)
		}
	})
}
