package tunssm

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
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

// TestFragmentsOvertakeNothing: a run that goes in fragments keeps its place among the peer's runs of a batch.
func TestFragmentsOvertakeNothing(t *testing.T) {
	out, _, host := pathPair(t)
	s := out.table.Load().sessions[1]
	s.peer.path.pieces.Store(true)
	var lengths []int
	host.heard = func(d packet.Datagrams) { lengths = append(lengths, d.Segment-packet.Overhead) }
	sizes := []int{100, 1270, 90, 1260, 80}
	for _, size := range sizes {
		frame := fake.Frame(fake.UDPPacket(netip.AddrPortFrom(in4(1), 1), netip.AddrPortFrom(in4(2), 2), make([]byte, size-28)))
		if _, ok := out.classify(out.frame[:copy(out.frame, frame)]); !ok {
			t.Fatal("not classified")
		}
		out.carry(s, s.target())
	}
	out.flush()
	if !slices.Equal(lengths, []int{100, 1270, 1260}) { // the shorter ones end them
		t.Errorf("packets of %d bytes go as runs of %d", sizes, lengths)
	}
}
