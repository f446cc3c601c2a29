package tunssm

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// toPorts are the selectors of flows from a to b, to one of the ports, by the protocol.
func toPorts(a, b *station, protocol packet.Protocol, ports ...uint16) (list packet.Selectors) {
	for _, p := range ports {
		list = append(list, packet.Selector{
			Src: netip.PrefixFrom(a.in4, 32), Dst: netip.PrefixFrom(b.in4, 32), Protocol: protocol, Ports: packet.PortRange{Lo: p, Hi: p},
		})
	}
	return list
}

// narrow sends a Narrow for the session to the named.
func (w *world) narrow(s *session, to packet.Selectors, revision uint64, names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.kdcs[0].tell(name, &control.Narrow{Session: s.id, Selectors: to, AsOf: control.AsOf{Epoch: 1, Revision: revision}})
	}
	synctest.Wait()
}

// acked is the newest receipt of a narrowing.
func (w *world) acked(from string) control.NarrowAck {
	w.t.Helper()
	acks := heard[*control.NarrowAck](w.kdcs[0], from)
	if len(acks) == 0 {
		w.t.Fatalf("%s has acked nothing", from)
	}
	return *acks[len(acks)-1]
}

// TestNarrow: both sides carry no more than what is left, at once, and say so; the session goes on.
func TestNarrow(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		s, _ := w.connect("a", "b")
		left := toPorts(a, b, packet.UDP, 9)
		w.narrow(s, left, 2, "a", "b")
		want := control.NarrowAck{Session: s.id, AsOf: control.AsOf{Epoch: 1, Revision: 2}, Digest: control.DigestSelectors(left)}
		for _, name := range []string{"a", "b"} {
			if got := w.acked(name); got != want {
				t.Errorf("%s acked %+v, want %+v", name, got, want)
			}
		}
		fits, reply, cut := datagram(a, b, 9, "fits"), reversed(b, a, 9, "reply"), datagram(a, b, 10, "cut")
		a.host.TUN.Inject(fits)
		b.wants(fits)
		b.host.TUN.Inject(reply)
		a.wants(reply)
		requests := len(heard[*control.KeyRequest](kdc, "a"))
		a.host.TUN.Inject(cut)
		a.answered(cut, packet.AdminProhibited)
		if got := len(heard[*control.KeyRequest](kdc, "a")); got != requests {
			t.Error("asked for what policy is known not to permit")
		}
		if st := a.status().Sessions; len(st) != 1 || st[0].ID != s.id || len(st[0].Selectors) != 1 || st[0].AsOf != want.AsOf {
			t.Errorf("%+v", st)
		}
		if got := a.sending("b").entry; got.Digest != want.Digest || got.AsOf != want.AsOf {
			t.Errorf("reported as %+v", got)
		}
	})
}

// reversed is a reply to datagram.
func reversed(from, to *station, port uint16, text string) []byte {
	return fake.UDPPacket(netip.AddrPortFrom(from.in4, port), netip.AddrPortFrom(to.in4, 40000), []byte(text))
}

// TestNarrowInbound: what the other side, not yet narrowed, still sends is dropped.
func TestNarrowInbound(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		s, _ := w.connect("a", "b")
		w.narrow(s, toPorts(a, b, packet.UDP, 9), 2, "b")
		a.host.TUN.Inject(datagram(a, b, 10, "late"))
		b.wants()
		b.drops(dropSelector, 1)
	})
}

// TestNarrowOnce: the newest of several counts, in whatever order they come; each is acked with what it is as of. Of one
// state there may be several, where a grant has ended by time: all of them count.
func TestNarrowOnce(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		s, _ := w.connect("a", "b")
		newest := toPorts(a, b, packet.UDP, 9)
		for _, to := range []struct {
			revision uint64
			ports    []uint16
			left     []uint16
		}{
			{3, []uint16{8, 9}, []uint16{8, 9}},
			{1, []uint16{10}, []uint16{8, 9}},
			{2, []uint16{10}, []uint16{8, 9}},
			{3, []uint16{8, 9}, []uint16{8, 9}},
			{3, []uint16{9}, []uint16{9}},
			{3, []uint16{8, 9}, []uint16{9}},
		} {
			w.narrow(s, toPorts(a, b, packet.UDP, to.ports...), to.revision, "a")
			left := control.DigestSelectors(toPorts(a, b, packet.UDP, to.left...))
			if got := w.acked("a"); got.AsOf.Revision != 3 || got.Digest != left {
				t.Errorf("%v is acked with %+v", to, got)
			}
		}
		if got := a.sending("b").scope.Load(); got.asOf.Revision != 3 || !got.selectors.CoverAll(newest) {
			t.Errorf("%+v", got)
		}
		w.narrow(&session{id: control.NewSessionID()}, newest, 4, "a")
		if got := w.acked("a"); got.Digest != (control.Digest{}) {
			t.Errorf("a session that is not there is acked with %+v", got)
		}
	})
}

// TestNarrowNarrows: a Narrow never widens; what policy permits besides comes with a new session.
func TestNarrowNarrows(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) {
			s.terms = func(terms *control.Terms) { terms.Selectors = toPorts(a, b, packet.UDP, 8, 9) }
		})
		s, _ := w.connect("a", "b")
		now := toPorts(a, b, packet.UDP, 9, 10)
		w.narrow(s, now, 2, "a", "b")
		if got := w.acked("a").Digest; got != control.DigestSelectors(toPorts(a, b, packet.UDP, 9)) {
			t.Error("it has other selectors than both had")
		}
		kdc.set(func(s *script) {
			s.asOf = control.AsOf{Epoch: 1, Revision: 2}
			s.terms = func(terms *control.Terms) { terms.Selectors = now }
		})
		wider := datagram(a, b, 10, "wider")
		a.host.TUN.Inject(wider)
		b.wants(wider)
		if got := a.sending("b"); got.id == s.id {
			t.Error("it came on the old session")
		}
		gone := datagram(a, b, 8, "gone")
		a.host.TUN.Inject(gone)
		a.answered(gone, packet.AdminProhibited)
	})
}

// TestNarrowReset: a TCP connection that was cut is reset at its sender, also after another session has taken over; what
// is no established connection, or never was permitted, gets an ICMP error.
func TestNarrowReset(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) {
			s.terms = func(terms *control.Terms) {
				terms.Selectors = append(toPorts(a, b, packet.UDP, 9), toPorts(a, b, packet.TCP, 22, 80)...)
			}
		})
		s, _ := w.connect("a", "b")
		segment := func(port uint16, flags byte) []byte {
			return fake.TCPPacket(netip.AddrPortFrom(a.in4, 50000), netip.AddrPortFrom(b.in4, port), 7, flags, nil)
		}
		established := segment(22, fake.ACK)
		a.host.TUN.Inject(established)
		b.wants(established)

		left := append(toPorts(a, b, packet.UDP, 9), toPorts(a, b, packet.TCP, 80)...)
		w.narrow(s, left, 2, "a", "b")
		reset, ok := packet.AppendReset(nil, established)
		if !ok {
			t.Fatal("no reset may be sent")
		}
		check := func() {
			t.Helper()
			a.host.TUN.Inject(established)
			a.wants(reset)
			for _, other := range [][]byte{segment(22, fake.SYN), segment(23, fake.ACK)} {
				a.host.TUN.Inject(other)
				a.answered(other, packet.AdminProhibited)
			}
		}
		check()
		left = left[:1]
		w.narrow(s, left, 3, "a", "b")
		check()
		kdc.set(func(s *script) {
			s.asOf = control.AsOf{Epoch: 1, Revision: 3}
			s.terms = func(terms *control.Terms) { terms.Selectors = left }
		})
		if err := a.Rekey("b"); err != nil {
			t.Fatal(err)
		}
		if a.sending("b").id == s.id {
			t.Fatal("it was not rekeyed")
		}
		check()
	})
}
