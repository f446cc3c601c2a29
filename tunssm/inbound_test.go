package tunssm

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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
		{"wrong destination", func(t *testing.T, g given) []byte { return data(t, g, g.a.in4, in4(77)) }, dropDestination, true},
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

// TestRoaming: the endpoint follows the newest opened frame; a late one from the old address does not move it back.
func TestRoaming(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		old := a.host.UDP.Addr()
		late := seal(t, s, packet.Data, 0, datagram(a, b, 9, "late"))
		elsewhere := netip.MustParseAddrPort("198.51.100.7:1234")
		a.host.UDP.Move(elsewhere)
		pkt := datagram(a, b, 9, "from elsewhere")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
		b.host.UDP.Forge(old, late)
		b.wants(datagram(a, b, 9, "late"))
		if e := b.status().Sessions[0].Endpoint; e != elsewhere {
			t.Fatalf("the endpoint is %v, want %v", e, elsewhere)
		}
		reply := datagram(b, a, 9, "to elsewhere")
		b.host.TUN.Inject(reply)
		a.wants(reply)
	})
}

// TestRekeyKeepsPath: a rekey after roaming goes on to where the peer is, though the KDC names where it was; and loses
// nothing of a flow in the middle of which it comes.
func TestRekeyKeepsPath(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		first, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		b.host.UDP.Move(netip.MustParseAddrPort("198.51.100.7:1234"))
		b.host.TUN.Inject(datagram(b, a, 9, "I have moved"))
		a.received()
		var sent [][]byte
		for i := range 200 {
			pkt := datagram(a, b, uint16(i+1), "flow")
			sent = append(sent, pkt)
			a.host.TUN.Inject(pkt)
			if i == 100 {
				a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			}
		}
		got := b.received()
		slices.SortFunc(got, bytes.Compare)
		slices.SortFunc(sent, bytes.Compare)
		if !slices.EqualFunc(got, sent, bytes.Equal) {
			t.Fatalf("%d of %d packets arrive", len(got), len(sent))
		}
		second := a.sending("b")
		if second == first || second.order != first.order+1 || !first.superseded {
			t.Fatal("the second session has not replaced the first")
		}
	})
}

// TestPeerRestarted: a new boot's session wins over the old one whatever the order, and is confirmed from elsewhere.
func TestPeerRestarted(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		for range 3 {
			w.connect("a", "b")
			w.stations["a"].in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			synctest.Wait()
		}
		a := w.stations["a"]
		old := a.sending("b")
		w.net.SetRule(fake.Drop) // b's goodbye is lost
		w.restart("b")
		w.net.SetRule(nil)
		b := w.stations["b"]
		pkt := datagram(b, a, 9, "back again")
		b.host.TUN.Inject(pkt)
		a.wants(pkt)
		if s := a.sending("b"); s == old || s.order != 1 || !old.superseded {
			t.Fatalf("a sends on a session of order %d", s.order)
		}
		reply := datagram(a, b, 9, "welcome back")
		a.host.TUN.Inject(reply)
		b.wants(reply)
	})
}

// TestUnheardBoot: the offer of a peer's new run takes its endpoint away before its first frame tells the new one. What
// is sent meanwhile must not fail harder than a lost frame.
func TestUnheardBoot(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.connect("b", "a")
		w.kdcs[0].set(func(s *script) { s.offer = func(o *control.KeyOffer) { o.Candidates = nil } })
		w.net.SetRule(fake.Drop)
		w.restart("b")
		b := w.stations["b"]
		a.in(func(acq *acquirer) {
			acq.sessionByID(a.acq.peers["b"].sessions[0].id).candidates.Store(new([]netip.AddrPort))
		})
		b.host.TUN.Inject(datagram(b, a, 9, "unheard"))
		synctest.Wait()
		a.host.TUN.Inject(datagram(a, b, 9, "to nowhere"))
		a.drops(dropSend, 1)
		w.net.SetRule(nil)
		time.Sleep(5 * time.Second)
		pkt := datagram(a, b, 9, "heard at last")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
	})
}

// TestCandidates: until the peer has been heard, held packets go to every candidate and later ones to the first.
func TestCandidates(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		first, third := netip.MustParseAddrPort("198.51.100.1:7601"), netip.MustParseAddrPort("[2001:db8::1]:7601")
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{first, b.host.UDP.Addr(), third} }
		})
		w.net.SetRule(func(d fake.Datagram) []fake.Delivery {
			return []fake.Delivery{{Payload: d.Payload, After: time.Millisecond}}
		})
		sentTo := func() (list []netip.AddrPort) {
			for _, d := range w.net.Sent() {
				if d.Src == a.host.UDP.Addr() {
					list = append(list, d.Dst)
				}
			}
			return list
		}
		held, next, later := datagram(a, b, 9, "held"), datagram(a, b, 9, "next"), datagram(a, b, 9, "later")
		a.host.TUN.Inject(held)
		synctest.Wait()
		a.host.TUN.Inject(next)
		synctest.Wait()
		if got, want := sentTo(), []netip.AddrPort{first, b.host.UDP.Addr(), third, first}; !slices.Equal(got, want) {
			t.Fatalf("sent to %v, want %v", got, want)
		}
		time.Sleep(10 * time.Millisecond)
		b.wants(held)
		a.host.TUN.Inject(later)
		time.Sleep(10 * time.Millisecond)
		b.wants(later)
		if got := sentTo(); got[len(got)-1] != b.host.UDP.Addr() {
			t.Fatalf("sent to %v", got)
		}
	})
}

// TestMovedCandidates: what the KDC says of a peer's new addresses serves the session that is not yet proven.
func TestMovedCandidates(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { g.Candidates = []netip.AddrPort{stranger} }
		})
		a.host.TUN.Inject(datagram(a, b, 9, "astray"))
		synctest.Wait()
		w.kdcs[0].tell("a", &control.Endpoint{Peer: "b", Candidates: []netip.AddrPort{b.host.UDP.Addr()}})
		time.Sleep(time.Second)
		if s := a.sending("b"); s == nil || !s.confirmed.Load() {
			t.Fatal("the session is not proven at the new address")
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
