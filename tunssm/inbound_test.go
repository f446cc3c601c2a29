package tunssm

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

var stranger = netip.MustParseAddrPort("198.51.100.66:6666")

// seal makes one frame of a session as this side would send it.
func seal(t testing.TB, s *session, typ packet.FrameType, flags uint8, payload []byte) []byte {
	t.Helper()
	frame, err := s.sealer.Seal(nil, typ, flags, payload)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestInboundRefuses delivers frames that must not pass. Those that do not open change nothing; those that do open are
// the peer's, but carry what the peer may not send.
func TestInboundRefuses(t *testing.T) {
	type given struct {
		a, b *station
		s    *session // a's
	}
	udp := func(src, dst netip.Addr, port uint16) []byte {
		return fake.UDPPacket(netip.AddrPortFrom(src, 1), netip.AddrPortFrom(dst, port), []byte("inner"))
	}
	data := func(t *testing.T, g given, src, dst netip.Addr) []byte {
		return seal(t, g.s, packet.Data, 0, udp(src, dst, 9))
	}
	tests := []struct {
		name  string
		frame func(t *testing.T, g given) []byte
		why   Drop
		opens bool
	}{
		{"no frame", func(*testing.T, given) []byte { return []byte("hello") }, dropFrame, false},
		{"unknown SPI", func(t *testing.T, g given) []byte {
			f := data(t, g, g.a.in4, g.b.in4)
			f[7]++
			return f
		}, dropSPI, false},
		{"tampered", func(t *testing.T, g given) []byte {
			f := data(t, g, g.a.in4, g.b.in4)
			f[len(f)-1]++
			return f
		}, dropOpen, false},
		{"tampered counter", func(t *testing.T, g given) []byte {
			f := data(t, g, g.a.in4, g.b.in4)
			f[15] += 7
			return f
		}, dropOpen, false},
		{"reflected", func(t *testing.T, g given) []byte {
			f := data(t, g, g.a.in4, g.b.in4)
			packet.FrameHeader{Type: packet.Data, SPI: g.s.spi}.Put(f)
			g.a.host.UDP.Forge(stranger, f) // to its own sender
			g.a.drops(dropOpen, 1)
			f[0] = 9
			return f
		}, dropFrame, false},
		{"wrong source", func(t *testing.T, g given) []byte { return data(t, g, in4(77), g.b.in4) }, dropSource, true},
		{"our own source", func(t *testing.T, g given) []byte { return data(t, g, g.b.in4, g.b.in4) }, dropSource, true},
		{"wrong destination", func(t *testing.T, g given) []byte { return data(t, g, g.a.in4, in4(77)) },
			dropDestination, true},
		{"multicast", func(t *testing.T, g given) []byte {
			return data(t, g, g.a.in4, netip.MustParseAddr("224.0.0.1"))
		}, dropDestination, true},
		{"no selector", func(t *testing.T, g given) []byte {
			return seal(t, g.s, packet.Data, 0, udp(g.a.in4, g.b.in4, 10))
		}, dropSelector, true},
		{"unclassified", func(t *testing.T, g given) []byte {
			pkt := udp(g.a.in4, g.b.in4, 9)
			pkt[9] = 0
			return seal(t, g.s, packet.Data, 0, pkt)
		}, dropSelector, true},
		{"no packet", func(t *testing.T, g given) []byte {
			return seal(t, g.s, packet.Data, 0, []byte("not IP"))
		}, dropInner, true},
		{"bytes behind the packet", func(t *testing.T, g given) []byte {
			return seal(t, g.s, packet.Data, 0, append(udp(g.a.in4, g.b.in4, 9), 0))
		}, dropInner, true},
		{"partial checksum where none can be", func(t *testing.T, g given) []byte {
			pkt := udp(g.a.in4, g.b.in4, 9)
			pkt[6] = 0x20 // more fragments
			return seal(t, g.s, packet.Data, packet.FlagPartial, pkt)
		}, dropInner, true},
		{"no probe", func(t *testing.T, g given) []byte { return seal(t, g.s, packet.Probe, 0, []byte{99, 0, 0, 0, 0}) },
			dropInner, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				w.kdcs[0].set(func(s *script) {
					s.terms = func(x *control.Terms) {
						x.Selectors = packet.Selectors{{
							Src: allFlows[0].Src, Dst: allFlows[0].Dst, Protocol: packet.UDP, Ports: packet.PortRange{Lo: 9, Hi: 9},
						}}
					}
				})
				s, _ := w.connect("a", "b")
				a, b := w.stations["a"], w.stations["b"]
				before := b.status().Sessions[0]
				b.host.UDP.Forge(stranger, tt.frame(t, given{a, b, s}))
				b.wants()
				b.drops(tt.why, 1)
				after := b.status().Sessions[0]
				if after.Rx != before.Rx {
					t.Errorf("it was counted as received: %+v", after.Rx)
				}
				if moved := after.Endpoint == stranger; moved != tt.opens {
					t.Errorf("the endpoint is %v", after.Endpoint)
				}
				pkt := udp(a.in4, b.in4, 9)
				a.host.TUN.Inject(pkt)
				b.wants(pkt)
			})
		})
	}
}

// TestReplay delivers every frame a second time, from elsewhere.
func TestReplay(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		again := 0
		for _, d := range w.net.Sent() {
			if d.Dst == b.host.UDP.Addr() && len(d.Payload) > 0 {
				b.host.UDP.Forge(stranger, bytes.Clone(d.Payload))
				again++
			}
		}
		b.wants()
		b.drops(dropReplay, uint64(again))
		if again == 0 || b.status().Sessions[0].Endpoint != a.host.UDP.Addr() {
			t.Fatal("a replayed frame moved the endpoint")
		}
	})
}

// TestWithoutOffload: a TUN that leaves nothing to the kernel gets whole packets with whole checksums.
func TestWithoutOffload(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		b := w.prepare("b", 2)
		b.host.TUN.SetOffload(false)
		b.run(b.identity)
		synctest.Wait()
		src, dst := netip.AddrPortFrom(a.in6, 40000), netip.AddrPortFrom(b.in6, 80)
		for range 2 {
			a.host.TUN.InjectFrame(fake.TCPFrame(src, dst, 0, bytes.Repeat([]byte("x"), 13000), 1300))
			got := b.received()
			for _, pkt := range got {
				if p, err := packet.Parse(pkt); err != nil || !packet.VerifyChecksum(p, pkt) {
					t.Fatalf("a segment arrives damaged: %v", err)
				}
			}
			if len(got) != 10 {
				t.Fatalf("%d packets, want 10", len(got))
			}
		}
		b.drops(dropTUN, 0)
	})
}
