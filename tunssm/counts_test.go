package tunssm

import (
	"bytes"
	"net/netip"
	"syscall"
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

// refusing is a TUN that takes nothing.
type refusing struct{ TUN }

func (refusing) WriteFrame(...[]byte) error { return syscall.EIO }

// TestDropsArePackets: what is dropped in one piece is counted by its packets.
func TestDropsArePackets(t *testing.T) {
	const segments, gso = 10, 1300
	frame := fake.TCPFrame(netip.AddrPortFrom(in4(1), 40000), netip.AddrPortFrom(in4(2), 80), 0, make([]byte, segments*gso), gso)
	for name, tt := range map[string]struct {
		why  Drop
		fail func(out *outbound, in *inbound, host *void)
	}{
		"the session has ended": {dropSeal, func(out *outbound, _ *inbound, _ *void) {
			out.table.Load().sessions[1].sealer.Destroy()
		}},
		"the TUN refuses": {dropTUN, func(_ *outbound, in *inbound, host *void) { in.queues[0].TUN = refusing{host} }},
		"each by itself": {dropTUN, func(_ *outbound, in *inbound, host *void) {
			host.plain = true
			in.queues[0].TUN = refusing{host}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			out, in, host := pathPair(t)
			tt.fail(out, in, host)
			step(t, out, bytes.Clone(frame))
			if got := out.drops[tt.why].Load() + in.drops[tt.why].Load(); got != segments {
				t.Errorf("%d dropped as %s, want %d", got, tt.why, segments)
			}
		})
	}
	_, in, host := pathPair(t)
	host.arrive(make([]byte, 1000), 100, netip.MustParseAddrPort("[fe80::1]:7"))
	if got := in.drops[dropLinkLocal].Load(); got != 10 {
		t.Errorf("%d dropped as %s, want 10", got, dropLinkLocal)
	}
}
