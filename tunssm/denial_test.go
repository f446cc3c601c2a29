package tunssm

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// no makes a script deny every request.
func no(reason control.Reason) func(string, *control.KeyRequest) control.Reason {
	return func(string, *control.KeyRequest) control.Reason { return reason }
}

// TestNo sends a packet of each family into each kind of no.
func TestNo(t *testing.T) {
	tests := []struct {
		name   string
		script func(*script)
		cause  packet.Cause
		drop   Drop
		after  time.Duration
	}{
		{"denied", func(s *script) { s.decide = no(control.Denied) }, packet.AdminProhibited, dropDenied, 0},
		{"suspended", func(s *script) { s.decide = no(control.Suspended) }, packet.AdminProhibited, dropDenied, 0},
		{"refused", func(s *script) { s.decide = no(control.Refused) }, packet.AdminProhibited, dropDenied, 0},
		{"offline", func(s *script) { s.decide = no(control.Offline) }, packet.HostUnreachable, dropUnreachable, 0},
		{"unknown", func(s *script) { s.decide = no(control.Unknown) }, packet.HostUnreachable, dropUnreachable, 0},
		{"busy", func(s *script) { s.decide = no(control.Busy) }, packet.HostUnreachable, dropUnreachable, 0},
		{"silent", func(s *script) { s.mute = true }, packet.HostUnreachable, dropUnreachable, control.HoldTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				a, b := w.stations["a"], w.stations["b"]
				w.kdcs[0].set(tt.script)
				for _, pkt := range [][]byte{datagram(a, b, 9, "four"), datagram6(a, b, 9, "six")} {
					began := time.Now()
					a.host.TUN.Inject(pkt)
					if tt.after > 0 {
						a.wants()
						time.Sleep(tt.after)
					}
					a.answered(pkt, tt.cause)
					if took := time.Since(began); took != tt.after {
						t.Errorf("answered after %v, want %v", took, tt.after)
					}
				}
				a.drops(tt.drop, 2)
				if a.status().Held != 0 {
					t.Error("something is still held")
				}
			})
		})
	}
}

// TestNoKDC: without any connection the answer comes at once.
func TestNoKDC(t *testing.T) {
	inWorld(t, 1, nil, func(t *testing.T, w *world) {
		w.net.Refuse(kdcAddress(0), true)
		a, b := w.add("a", 1), &station{in4: in4(2)}
		synctest.Wait()
		pkt := datagram(a, b, 9, "nobody")
		a.host.TUN.Inject(pkt)
		a.answered(pkt, packet.HostUnreachable)
	})
}

// TestDenialIsRemembered: for a few seconds, for the same service only, and not beyond an Update.
func TestDenialIsRemembered(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) {
			s.decide = func(_ string, q *control.KeyRequest) control.Reason {
				if q.Flow.DstPort == 22 {
					return control.Denied
				}
				return 0
			}
			s.terms = func(x *control.Terms) {
				x.Selectors = packet.Selectors{{
					Src: allFlows[0].Src, Dst: allFlows[0].Dst, Protocol: packet.UDP, Ports: packet.PortRange{Lo: 9, Hi: 9},
				}}
			}
		})
		asked := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := len(heard[*control.KeyRequest](kdc, "a")); n != want {
				t.Fatalf("%d requests, want %d", n, want)
			}
		}
		ssh := datagram(a, b, 22, "ssh")
		for range 3 {
			a.host.TUN.Inject(ssh)
			a.answered(ssh, packet.AdminProhibited)
		}
		asked(1)
		time.Sleep(denialLife + time.Millisecond)
		a.host.TUN.Inject(ssh)
		a.answered(ssh, packet.AdminProhibited)
		asked(2)

		kdc.tell("a", &control.Update{Config: control.Config{AsOf: control.AsOf{Epoch: 1, Revision: 1}}})
		synctest.Wait()
		a.host.TUN.Inject(ssh)
		a.answered(ssh, packet.AdminProhibited)
		asked(3)

		other := datagram(a, b, 9, "discard")
		a.host.TUN.Inject(other)
		b.wants(other)
		asked(4)
	})
}

// TestDenialAmongHeld: of several services of one destination that wait together, the denied one is answered and the
// others are asked for.
func TestDenialAmongHeld(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.mute = true })
		ssh, other, more := datagram(a, b, 22, "ssh"), datagram(a, b, 9, "discard"), datagram(a, b, 22, "ssh again")
		for _, pkt := range [][]byte{ssh, other, more} {
			a.host.TUN.Inject(pkt)
		}
		synctest.Wait()
		q := heard[*control.KeyRequest](kdc, "a")
		if len(q) != 1 || q[0].Flow.DstPort != 22 {
			t.Fatalf("%d requests", len(q))
		}
		kdc.set(func(s *script) { s.mute = false })
		kdc.mu.Lock()
		id := kdc.received[len(kdc.received)-1].ID
		kdc.mu.Unlock()
		kdc.line("a").conn.Send(id, &control.KeyDenial{Na: q[0].Na, Reason: control.Denied})
		b.wants(other)
		if got := a.received(); len(got) != 2 {
			t.Fatalf("%d answers, want 2", len(got))
		}
	})
}

// TestForeignDenial: a denial that does not name the attempt, or comes from another KDC, changes nothing.
func TestForeignDenial(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		pkt := datagram(a, b, 9, "patience")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		na := heard[*control.KeyRequest](kdc, "a")[0].Na
		for i, d := range []*control.KeyDenial{{Reason: control.Denied}, {Na: na, Reason: control.Denied}} {
			w.kdcs[i].line("a").conn.Send(1, d)
		}
		a.wants()
		kdc.release()
		b.wants(pkt)
	})
}

// TestNoAnswerToErrors: what may not be answered (RFC 1812, section 4.3.2.7) is dropped in silence.
func TestNoAnswerToErrors(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Denied) })
		quoted, ok := packet.AppendError(nil, packet.TooBig, 1400, a.in4, datagram(b, a, 1, "quoted"))
		if !ok {
			t.Fatal("no error was built")
		}
		a.host.TUN.Inject(quoted)
		a.wants()
		a.drops(dropDenied, 1)
		ping := fake.EchoPacket(a.in4, b.in4, 1, 1, nil)
		a.host.TUN.Inject(ping)
		a.drops(dropDenied, 2)
		if got := a.received(); len(got) != 1 {
			t.Fatalf("%d answers to an echo request, want 1", len(got))
		}
	})
}

// TestAnswersAreLimited floods a denied service.
func TestAnswersAreLimited(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Denied) })
		pkt := datagram(a, b, 9, "flood")
		for range answerBurst + 100 {
			a.host.TUN.Inject(pkt)
			synctest.Wait()
		}
		if n := len(a.received()); n != answerBurst {
			t.Fatalf("%d answers at once, want %d", n, answerBurst)
		}
		a.drops(dropDenied, answerBurst+100)
	})
}

// TestResponderRefuses: the responder's no reaches the requester's host.
func TestResponderRefuses(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) { s.offer = func(o *control.KeyOffer) { o.A.Prefixes = o.B.Prefixes } })
		pkt := datagram(a, b, 9, "overlap")
		a.host.TUN.Inject(pkt)
		a.answered(pkt, packet.AdminProhibited)
		if n := len(b.sessions("a")); n != 0 {
			t.Fatalf("the responder has %d sessions", n)
		}
	})
}

// TestDenialsBound adds more denials than are kept, against a map without bounds.
func TestDenialsBound(t *testing.T) {
	d, now := denials{}, time.Now()
	all := map[service]control.Reason{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3 * maxDenials {
		k := serviceOf(packet.Flow{
			Class: packet.Complete, Protocol: packet.TCP, DstPort: uint16(r.Uint32()),
			Dst: netip.AddrFrom4([4]byte{10, 0, byte(r.Uint32()), byte(r.Uint32())}),
		})
		reason := control.Reason(1 + r.UintN(10))
		d.add(k, reason, now)
		all[k] = reason
		if len(d) > maxDenials {
			t.Fatalf("%d denials kept", len(d))
		}
		if got, ok := d.find(k, now.Add(absentLife)); !ok || got != reason {
			t.Fatal("a denial is forgotten at once")
		}
	}
	kept := slices.Collect(maps.Keys(d))
	for _, k := range kept {
		if got, ok := d.find(k, now); !ok || got != all[k] {
			t.Fatalf("%v: %v, want %v", k, got, all[k])
		}
		if _, ok := d.find(k, now.Add(denialLife+1)); ok {
			t.Fatal("a denial outlives its time")
		}
	}
	if len(d) != 0 {
		t.Fatalf("%d denials are kept beyond their time", len(d))
	}
}

// TestDenialKeyTellsApart: what a selector tells apart is not denied alike.
func TestDenialKeyTellsApart(t *testing.T) {
	base := packet.Flow{Class: packet.Complete, Protocol: packet.TCP, Src: in4(1), Dst: in4(2), SrcPort: 1, DstPort: 80}
	same, port, proto, class, dst, src := base, base, base, base, base, base
	same.SrcPort = 2
	port.DstPort, proto.Protocol, class.Class, dst.Dst = 81, packet.UDP, packet.ProtocolOnly, in4(3)
	src.Src = in4(4)
	if serviceOf(same) != serviceOf(base) {
		t.Error("two flows to one service are asked for twice")
	}
	for _, other := range []packet.Flow{port, proto, class, dst, src} {
		if serviceOf(other) == serviceOf(base) {
			t.Errorf("%v is denied with %v", other, base)
		}
	}
}

// TestLoopFails: an interface or a socket that fails ends the SSM with its error, and nothing stays behind.
func TestLoopFails(t *testing.T) {
	broken := fmt.Errorf("broken: %w", syscall.EBADFD)
	for name, fail := range map[string]func(h *fake.Host){
		"tun": func(h *fake.Host) { h.TUN.Fail(broken) },
		"udp": func(h *fake.Host) { h.UDP.Fail(broken) },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				a, b := w.stations["a"], w.stations["b"]
				w.connect("a", "b")
				fail(a.host)
				a.ended(broken)
				if n := len(b.sessions("a")); n != 0 {
					t.Errorf("the peer keeps %d sessions", n)
				}
				if _, err := a.Status(); !errors.Is(err, ErrEnded) {
					t.Errorf("Status after the end: %v", err)
				}
				if _, err := a.Ping(t.Context(), "b"); !errors.Is(err, ErrEnded) {
					t.Errorf("Ping after the end: %v", err)
				}
			})
		})
	}
}

// TestLoopGoesOn: an error of the moment ends nothing, and one that comes again and again takes no processor.
func TestLoopGoesOn(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		errnos := []syscall.Errno{
			syscall.EINVAL, syscall.EFAULT, syscall.EIO, syscall.ENOMEM, syscall.ENOBUFS, syscall.ECONNREFUSED, syscall.ECONNABORTED,
			syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EINTR,
		}
		began := time.Now()
		for _, errno := range errnos {
			a.host.TUN.Fail(errno)
			a.host.UDP.Fail(errno)
		}
		b.host.TUN.Inject(datagram(b, a, 9, "in"))
		a.host.TUN.Inject(datagram(a, b, 9, "out"))
		time.Sleep(4 * faultPause) // of each, one may be under way and one be waiting
		a.wants(datagram(b, a, 9, "in"))
		b.wants(datagram(a, b, 9, "out"))
		a.drops(dropRead, uint64(2*len(errnos)))
		if took := time.Since(began); took < time.Duration(len(errnos))*faultPause {
			t.Errorf("%d failures within %v", 2*len(errnos), took)
		}
	})
}
