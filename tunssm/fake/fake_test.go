package fake

// The fakes are tested by their use. What is tested here is what would make other tests pass for nothing: packets that are
// none, and harm that does not happen.

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
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
