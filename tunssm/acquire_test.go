package tunssm

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

func TestFourSteps(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		var sent [][]byte
		for i := range 20 {
			pkt := datagram(a, b, 9, fmt.Sprintf("packet %d of the first twenty", i))
			sent = append(sent, pkt)
			a.host.TUN.Inject(pkt)
		}
		b.wants()
		if n := len(heard[*control.KeyRequest](kdc, "a")); n != 1 {
			t.Fatalf("%d requests for one destination", n)
		}
		if a.status().Held == 0 {
			t.Fatal("nothing is held")
		}
		kdc.release()
		b.wants(sent...)
		if st := a.status(); st.Held != 0 || len(st.Drops) != 0 {
			t.Fatalf("held %d, dropped %v", st.Held, st.Drops)
		}
		reply := datagram(b, a, 40000, "reply")
		b.host.TUN.Inject(reply)
		a.wants(reply)
		six := datagram6(a, b, 9, "over IPv6")
		a.host.TUN.Inject(six)
		b.wants(six)
		if n := len(heard[*control.KeyRequest](kdc, "a")) + len(heard[*control.KeyRequest](kdc, "b")); n != 1 {
			t.Fatalf("%d requests in all, want 1", n)
		}
	})
}

// TestNothingInClear looks for what is inside in all that went over the underlay.
func TestNothingInClear(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		const text = "attack at dawn, attack at dawn"
		pkt := datagram(a, b, 9, text)
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
		frames := 0
		for _, d := range w.net.Sent() {
			if len(d.Payload) == 0 {
				continue // the responder's, which opens a NAT
			}
			frames++
			h, err := packet.ParseFrame(d.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if h.Type == packet.Data && len(d.Payload) != len(pkt)+packet.Overhead {
				t.Errorf("a frame of %d bytes for a packet of %d", len(d.Payload), len(pkt))
			}
			for _, inner := range [][]byte{[]byte(text[:8]), a.in4.AsSlice(), b.in4.AsSlice()} {
				if bytes.Contains(d.Payload, inner) {
					t.Errorf("a frame shows %q", inner)
				}
			}
		}
		if frames < 2 {
			t.Fatalf("%d frames, want the packet and the probe that answers it", frames)
		}
	})
}

// TestSuperFrame sends what segmentation offload hands over, first held and then through the loop.
func TestSuperFrame(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		src, dst := netip.AddrPortFrom(a.in4, 40000), netip.AddrPortFrom(b.in4, 80)
		payload := bytes.Repeat([]byte("0123456789abcdef"), 3500)
		for seq := range uint32(3) {
			a.host.TUN.InjectFrame(fake.TCPFrame(src, dst, seq*56000, payload, 1300))
			var got []byte
			packets := b.received()
			for _, pkt := range packets {
				p, err := packet.Parse(pkt)
				if err != nil || !packet.VerifyChecksum(p, pkt) {
					t.Fatalf("a segment arrives damaged: %v", err)
				}
				got = append(got, pkt[40:]...)
			}
			if len(packets) != 44 || !bytes.Equal(got, payload) {
				t.Fatalf("%d packets with %d bytes, want 44 with %d", len(packets), len(got), len(payload))
			}
		}
	})
}

// TestOutOfTheTunnel covers what goes no further and asks nobody.
func TestOutOfTheTunnel(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		from := netip.AddrPortFrom(a.in4, 1)
		for _, to := range []string{"224.0.0.1", "255.255.255.255", "169.254.1.1", "0.0.0.0", "127.0.0.1"} {
			a.host.TUN.Inject(fake.UDPPacket(from, netip.AddrPortFrom(netip.MustParseAddr(to), 9), nil))
		}
		a.host.TUN.Inject(fake.UDPPacket(netip.AddrPortFrom(a.in6, 1), netip.MustParseAddrPort("[fe80::1]:9"), nil))
		a.host.TUN.Inject([]byte{0x45, 0, 0})
		a.wants()
		a.drops(dropMulticast, 6)
		a.drops(dropMalformed, 1)
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 0 {
			t.Fatalf("%d requests", n)
		}
	})
}

// TestHoldLimits fills the hold queue of one destination.
func TestHoldLimits(t *testing.T) {
	tests := []struct {
		name         string
		frames, size int
		held         int
	}{
		{"frames", 70, 100, 64},
		{"bytes", 10, 60000, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, nil, func(t *testing.T, w *world) {
				a, b, kdc := w.prepare("a", 1), w.add("b", 2), w.kdcs[0]
				a.host.MTU = 65000
				a.host.Route.Know(65535)
				a.run(a.identity)
				synctest.Wait()
				kdc.set(func(s *script) { s.hold = true })
				var sent [][]byte
				for i := range tt.frames {
					pkt := datagram(a, b, uint16(i+1), string(make([]byte, tt.size)))
					sent = append(sent, pkt)
					a.host.TUN.Inject(pkt)
				}
				a.drops(dropHoldFull, uint64(tt.frames-tt.held))
				kdc.release()
				b.wants(sent[:tt.held]...) // the newest are those dropped
			})
		})
	}
}

// TestSecondAddress: the peer is acquired by one of its addresses and another has packets waiting too.
func TestSecondAddress(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		four, six := datagram(a, b, 9, "four"), datagram6(a, b, 9, "six")
		a.host.TUN.Inject(four)
		a.host.TUN.Inject(six)
		synctest.Wait()
		kdc.release()
		got := b.received()
		if len(got) != 2 {
			t.Fatalf("%d packets, want both", len(got))
		}
		if st := a.status(); st.Held != 0 || len(st.Drops) != 0 {
			t.Fatalf("held %d, dropped %v", st.Held, st.Drops)
		}
		a.in(func(acq *acquirer) {
			if n := len(acq.peers["b"].sessions); n != 1 {
				t.Errorf("%d sessions, want 1", n)
			}
			if len(acq.attempts) != 0 || len(acq.pending) != 0 {
				t.Errorf("%d attempts and %d requests are left", len(acq.attempts), len(acq.pending))
			}
		})
	})
}

// TestSelectorsOfTheSession: a packet that was held for a session which turns out not to permit it is answered, as is
// one that comes later; once policy has moved on, it is asked for again.
func TestSelectorsOfTheSession(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		narrow := packet.Selectors{{
			Src: allFlows[0].Src, Dst: allFlows[0].Dst, Protocol: packet.UDP, Ports: packet.PortRange{Lo: 9, Hi: 9},
		}}
		kdc.set(func(s *script) { s.hold, s.terms = true, func(x *control.Terms) { x.Selectors = narrow } })
		good, bad := datagram(a, b, 9, "good"), datagram(a, b, 10, "bad")
		a.host.TUN.Inject(good)
		a.host.TUN.Inject(bad)
		synctest.Wait()
		kdc.release()
		b.wants(good)
		a.answered(bad, packet.AdminProhibited)
		a.host.TUN.Inject(bad)
		a.answered(bad, packet.AdminProhibited)
		a.drops(dropDenied, 2)

		newer := control.AsOf{Epoch: 1, Revision: 2}
		kdc.set(func(s *script) { s.asOf, s.terms = newer, nil })
		kdc.tell("a", &control.Update{Config: control.Config{AsOf: newer}})
		synctest.Wait()
		a.host.TUN.Inject(bad)
		b.wants(bad)
		a.wants()
	})
}

// TestLateFrames: what the outbound loop has handed over but the acquirer not yet held leaves before what comes after.
func TestLateFrames(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		first, late := datagram(a, b, 9, "first"), datagram(a, b, 9, "late")
		other := fake.UDPPacket(netip.AddrPortFrom(a.in4, 1), netip.AddrPortFrom(in4(77), 9), nil)
		a.host.TUN.Inject(first)
		synctest.Wait()
		a.in(func(acq *acquirer) { // the acquirer is busy while the loop hands over and the grant arrives
			a.host.TUN.Inject(late)
			a.host.TUN.Inject(other)
			kdc.release()
			time.Sleep(time.Millisecond)
		})
		b.wants(first, late)
		a.answered(other, packet.HostUnreachable)
		if n := len(heard[*control.KeyRequest](kdc, "a")); n != 2 {
			t.Fatalf("%d requests, want one for each destination", n)
		}
	})
}

// TestReleaseEmptiesBacklog: a release takes with it what still waits for the acquirer's attention.
func TestReleaseEmptiesBacklog(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		one, two := datagram(a, b, 9, "one"), datagram(a, b, 9, "two")
		a.in(func(acq *acquirer) {
			p, _ := acq.out.classify(fake.Frame(one))
			acq.holds.hold(p.Flow, fake.Frame(one))
			acq.toHold <- fake.Frame(two)
			if n := acq.step4Release(s); n != 2 {
				t.Errorf("released %d frames, want 2", n)
			}
		})
		b.wants(one, two)
	})
}

// TestSeenInGrantAndOffer: both sides of a session have seen the state that it was decided under.
func TestSeenInGrantAndOffer(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		newer := control.AsOf{Epoch: 1, Revision: 9}
		w.kdcs[0].set(func(s *script) { s.asOf = newer })
		w.connect("a", "b")
		for _, s := range w.stations {
			if got := s.status().AsOf; got != newer {
				t.Errorf("%s has seen %v, want %v", s.name, got, newer)
			}
		}
	})
}
