package tunssm

import (
	"net/netip"
	"testing"

	"ssmnet/tunssm/fake"
)

// TestCounts: a super-frame is one read, many frames, and on the other side as many packets in few writes.
func TestCounts(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		const segments, gso = 20, 1000 // sure to pass, hence no probes of the path
		o, i := a.status().Outbound, b.status().Inbound
		src, dst := netip.AddrPortFrom(a.in4, 40000), netip.AddrPortFrom(b.in4, 80)
		a.host.TUN.InjectFrame(fake.TCPFrame(src, dst, 0, make([]byte, segments*gso), gso))
		if n := len(b.received()); n != segments {
			t.Fatalf("%d packets arrive, want %d", n, segments)
		}
		sent, got := a.status().Outbound, b.status().Inbound
		if want := (OutboundStatus{o.Batches + 1, o.Reads + 1, o.Sends + 1, o.Frames + segments}); sent != want {
			t.Errorf("outbound %+v, want %+v", sent, want)
		}
		want := InboundStatus{i.Batches + 1, i.Receives + 1, i.Frames + segments, i.Writes + 1, i.Packets + segments}
		if got != want {
			t.Errorf("inbound %+v, want %+v", got, want)
		}

		b.host.UDP.Forge(stranger, []byte("no frame"))
		b.wants()
		want.Batches, want.Receives, want.Frames = want.Batches+1, want.Receives+1, want.Frames+1
		if got := b.status().Inbound; got != want {
			t.Errorf("after noise %+v, want %+v", got, want)
		}
	})
}
