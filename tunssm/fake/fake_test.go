package fake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
)

var (
	left4, right4 = netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:2000")
	left6, right6 = netip.MustParseAddrPort("[fd00::1]:1000"), netip.MustParseAddrPort("[fd00::2]:2000")
)

// TestBuilders parses what is built and verifies its checksums.
func TestBuilders(t *testing.T) {
	for _, pair := range [][2]netip.AddrPort{{left4, right4}, {left6, right6}} {
		src, dst := pair[0], pair[1]
		for _, size := range []int{0, 1, 1400} {
			payload := bytes.Repeat([]byte{7}, size)
			for protocol, pkt := range map[packet.Protocol][]byte{
				packet.UDP: UDPPacket(src, dst, payload),
				packet.TCP: TCPPacket(src, dst, 1, SYN, payload),
			} {
				p, err := packet.Parse(pkt)
				want := packet.Flow{
					Protocol: protocol, Class: packet.Complete, Src: src.Addr(), Dst: dst.Addr(),
					SrcPort: src.Port(), DstPort: dst.Port(),
				}
				if err != nil || p.Flow != want || p.Total != len(pkt) || !packet.VerifyChecksum(p, pkt) {
					t.Errorf("%v: %+v, %v", want, p, err)
				}
			}
			echo := EchoPacket(src.Addr(), dst.Addr(), 1, 2, payload)
			p, err := packet.Parse(echo)
			if err != nil || p.Class != packet.Complete || p.Total != len(echo) || !bytes.HasSuffix(echo, payload) {
				t.Errorf("%+v, %v", p, err)
			}
			if icmp := packet.Protocol(1); src.Addr().Is4() && (p.Protocol != icmp || sum(echo[p.Upper:]) != 0xffff) {
				t.Errorf("echo request %x", echo)
			}
			if src.Addr().Is6() {
				pseudo := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
				length := len(echo) - p.Upper
				pseudo = append(pseudo, byte(length>>8), byte(length), 0, byte(packet.ICMPv6))
				if p.Protocol != packet.ICMPv6 || sum(append(pseudo, echo[p.Upper:]...)) != 0xffff {
					t.Errorf("echo request %x", echo)
				}
			}
		}
	}
}

// TestTUN: what is injected is read, what is written arrives in packets, and Close wakes the reader.
func TestTUN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tun := newTUN()
		pkt := UDPPacket(left4, right4, []byte("x"))
		tun.Inject(pkt)
		b := make([]byte, 2000)
		n, err := tun.ReadFrame(b)
		if err != nil || !bytes.Equal(b[packet.VirtioLen:n], pkt) {
			t.Fatalf("%x, %v", b[:n], err)
		}
		if _, err := tun.WriteFrame(TCPFrame(left6, right6, 0, make([]byte, 2500), 1000)); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1060, 1060, 560} {
			got := <-tun.Packets()
			if p, err := packet.Parse(got); err != nil || len(got) != size || !packet.VerifyChecksum(p, got) {
				t.Fatalf("a packet of %d bytes, want %d: %v", len(got), size, err)
			}
		}
		if _, err := tun.WriteFrame([]byte{1}); err == nil {
			t.Error("half a header is taken")
		}
		go func() {
			synctest.Wait()
			tun.Close()
		}()
		if _, err := tun.ReadFrame(b); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
		tun.Inject(pkt)
		if _, err := tun.WriteFrame(Frame(pkt)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

// TestUDP sends joined and by rule, to somebody and to nobody.
func TestUDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		a, b := n.Host(left4).UDP, n.Host(right4).UDP
		receive := func() (string, int) {
			t.Helper()
			buf := make([]byte, 100)
			size, segment, src, err := b.Receive(buf)
			if err != nil || src != left4 {
				t.Fatalf("from %v, %v", src, err)
			}
			return string(buf[:size]), segment
		}
		send := func(text string, segment int, to netip.AddrPort) {
			t.Helper()
			if err := a.Send([]byte(text), segment, to); err != nil {
				t.Fatal(err)
			}
		}
		send("aabbc", 2, right4)
		if text, segment := receive(); text != "aabbc" || segment != 2 {
			t.Errorf("%q in segments of %d", text, segment)
		}
		send("nobody", 6, left6)
		n.SetRule(func(d Datagram) []Delivery {
			return []Delivery{{d.Payload, time.Duration(10-len(n.Sent())) * time.Second}}
		})
		send("1", 0, right4)
		send("2", 0, right4)
		if text, _ := receive(); text != "2" {
			t.Errorf("%q comes first", text)
		}
		if text, _ := receive(); text != "1" {
			t.Errorf("%q comes second", text)
		}
		send("", 0, right4)
		var sent []string
		for _, d := range n.Sent() {
			sent = append(sent, string(d.Payload))
		}
		if want := []string{"aa", "bb", "c", "nobody", "1", "2", ""}; !reflect.DeepEqual(sent, want) {
			t.Errorf("%q, want %q", sent, want)
		}
		if a.Send([]byte("x"), 1, netip.AddrPort{}) == nil {
			t.Error("sent to no address")
		}
		b.Close()
		b.Close()
		if _, _, _, err := b.Receive(nil); !errors.Is(err, net.ErrClosed) && err != nil {
			t.Errorf("%v", err)
		}
		n.Host(right4) // the address is free again
	})
}

// TestImpairment: equal seeds meet equal fates, others do not, and each kind of harm happens.
func TestImpairment(t *testing.T) {
	bad := Impairment{Loss: 0.2, Duplicate: 0.2, Corrupt: 0.2, Delay: time.Second, Jitter: time.Second}
	run := func(seed uint64) (all [][]Delivery) {
		rule := bad.Rule(seed)
		for range 200 {
			all = append(all, rule(Datagram{Payload: []byte("payload")}))
		}
		return all
	}
	one := run(1)
	if !reflect.DeepEqual(one, run(1)) || reflect.DeepEqual(one, run(2)) {
		t.Error("the seed does not decide")
	}
	lost, twice, corrupt := 0, 0, 0
	for _, list := range one {
		switch len(list) {
		case 0:
			lost++
		case 2:
			twice++
		}
		for _, d := range list {
			if string(d.Payload) != "payload" {
				corrupt++
			}
			if d.After < bad.Delay || d.After >= bad.Delay+bad.Jitter {
				t.Errorf("delayed by %v", d.After)
			}
		}
	}
	if lost < 10 || twice < 10 || corrupt < 10 {
		t.Errorf("%d lost, %d doubled, %d corrupt", lost, twice, corrupt)
	}
	d := Datagram{Payload: []byte("x")}
	if got := (Impairment{}).Rule(1)(d); !reflect.DeepEqual(got, Through(d)) {
		t.Errorf("no impairment gives %v", got)
	}
}

// TestDial connects, with addresses on both ends, and fails in each way it may.
func TestDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const address = "203.0.113.1:7600"
		n := NewNetwork()
		h := n.Host(left4)
		if _, err := h.Dial(t.Context(), address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		l, err := n.Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Listen(address); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listening twice: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.Dial(ctx, address); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody accepts: %v", err)
		}
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		near, err := h.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		far := <-accepted
		if from, ok := far.RemoteAddr().(*net.TCPAddr); !ok || from.AddrPort().Addr() != left4.Addr() {
			t.Errorf("from %v", far.RemoteAddr())
		}
		if to, ok := near.RemoteAddr().(*net.TCPAddr); !ok || to.String() != address || far.LocalAddr().String() != address {
			t.Errorf("to %v", near.RemoteAddr())
		}
		n.Refuse(address, true)
		if _, err := h.Dial(t.Context(), address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", err)
		}
		n.Cut(address)
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("cut: %v", err)
		}
		n.Refuse(address, false)
		go func() {
			synctest.Wait()
			l.Close()
		}()
		if _, err := h.Dial(t.Context(), address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("closed meanwhile: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}
