package tunssm

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestSourceOfNoHost: what comes from no single host goes no further, and before the first Welcome too asks nobody.
func TestSourceOfNoHost(t *testing.T) {
	inWorld(t, 1, []string{"b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.silent = true })
		a, b := w.add("a", 2), w.stations["b"]
		for _, from := range []string{"224.0.0.1:1", "0.0.0.0:1", "127.0.0.1:1", "169.254.0.1:1", "255.255.255.255:1"} {
			a.host.TUN.Inject(fake.UDPPacket(netip.MustParseAddrPort(from), netip.AddrPortFrom(b.in4, 9), nil))
		}
		a.wants()
		a.drops(dropMulticast, 5)
		synctest.Wait()
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestBatchesOfFragments: segments that are cut again to fit the path go so that the kernel, which cuts a send at equal
// lengths, gives the frames back.
func TestBatchesOfFragments(t *testing.T) {
	out, in, _ := pathPair(t)
	p := out.table.Load().owner(in4(2))
	p.path.limit.Store(1300)
	p.path.sure.Store(1300)
	const segments, gso = 20, 1400
	src, dst := netip.AddrPortFrom(in4(1), 40000), netip.AddrPortFrom(in4(2), 80)
	step(t, out, fake.TCPFrame(src, dst, 0, make([]byte, segments*gso), gso))
	if n := in.table.Load().sessions[2].rx.packets.Load(); n != 2*segments {
		t.Errorf("%d fragments arrive, want %d", n, 2*segments)
	}
	if d := in.drops.snapshot(); len(d) != 0 {
		t.Errorf("dropped %v", d)
	}
}
