package tunssm

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
	"ssmnet/tunssm/fake"
)

// TestForgedFirstFrame: a frame that does not open confirms no session and is no sign of life, however well it names its
// SPI. The responder goes on sending nothing.
func TestForgedFirstFrame(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a, b, 9, "lost"))
		synctest.Wait()
		w.net.Forget()
		for _, s := range []*session{a.sessions("b")[0], b.sessions("a")[0]} {
			forged := make([]byte, packet.Overhead+64)
			packet.FrameHeader{Type: packet.Data, SPI: s.spi}.Put(forged)
			to := map[bool]*station{true: a, false: b}[s.requester]
			to.host.UDP.Forge(stranger, forged)
			to.drops(dropOpen, 1)
			if is := to.state(s); is != provisional || s.heardAt() != 0 {
				t.Errorf("%s: %v, heard at %v", to.name, is, s.heardAt())
			}
		}
		if sent := w.net.Sent(); len(sent) != 0 {
			t.Errorf("%d frames in answer", len(sent))
		}
	})
}

// TestConfirmationIsOneFrame (rule 5): the requester's first frame, the responder's answer to it, and no more.
func TestConfirmationIsOneFrame(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		frames := map[netip.AddrPort]int{}
		for _, d := range w.net.Sent() {
			if len(d.Payload) > 0 {
				frames[d.Src]++
			}
		}
		for _, s := range w.stations {
			if n := frames[s.host.UDP.Addr()]; n != 1 {
				t.Errorf("%s sends %d frames", s.name, n)
			}
		}
	})
}

// TestWideSubnet: a subnet may hold addresses that are of no single host. From these, and to them, a peer sends nothing.
func TestWideSubnet(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, r := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		wide := netip.MustParsePrefix("128.0.0.0/1")
		r.prefixes, r.self = append(slices.Clone(r.prefixes), wide), append(slices.Clone(r.self), wide)
		host, many := netip.MustParseAddrPort("192.0.2.9:9"), netip.MustParseAddrPort("224.0.0.1:9")
		good := fake.UDPPacket(host, netip.AddrPortFrom(b.in4, 9), []byte("from behind a"))
		for _, tt := range []struct {
			pkt []byte
			why Drop
		}{
			{fake.UDPPacket(many, netip.AddrPortFrom(b.in4, 9), nil), dropSource},
			{fake.UDPPacket(netip.AddrPortFrom(a.in4, 9), many, nil), dropDestination},
		} {
			b.host.UDP.Forge(a.host.UDP.Addr(), seal(t, s, packet.Data, 0, tt.pkt))
			b.wants()
			b.drops(tt.why, 1)
		}
		b.host.UDP.Forge(a.host.UDP.Addr(), seal(t, s, packet.Data, 0, good))
		b.wants(good)
	})
}
