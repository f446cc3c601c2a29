package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// checkError holds an error packet against the RFCs: headers, checksums, length, and the quotation.
func checkError(t testing.TB, b, original []byte, source netip.Addr) Packet {
	t.Helper()
	p, o := mustParse(t, b), mustParse(t, original)
	if p.Total != len(b) || p.Src != source || p.Dst != o.Src || p.Class != Complete {
		t.Fatalf("%+v", p)
	}
	limit, pseudo := 576, []byte(nil)
	if p.Version == 6 {
		limit, pseudo = 1280, slowPseudo(p)
	} else if slowSum(b[:20]) != 0xffff {
		t.Fatal("wrong header checksum")
	}
	if slowSum(pseudo, b[p.Upper:]) != 0xffff {
		t.Fatal("wrong ICMP checksum")
	}
	quoted := original[:o.Total]
	if want := quoted[:min(len(quoted), limit-p.Upper-8)]; !bytes.Equal(b[p.Upper+8:], want) {
		t.Fatalf("quotes %d bytes, want %d", p.Total-p.Upper-8, len(want))
	}
	return p
}

func TestAppendError(t *testing.T) {
	tests := []struct {
		name    string
		cause   Cause
		version int
		want    []byte // type, code, zeros for the checksum, the second word
	}{
		{"prohibited 4", AdminProhibited, 4, []byte{3, 13, 0, 0, 0, 0, 0, 0}},
		{"prohibited 6", AdminProhibited, 6, []byte{1, 1, 0, 0, 0, 0, 0, 0}},
		{"unreachable 4", HostUnreachable, 4, []byte{3, 1, 0, 0, 0, 0, 0, 0}},
		{"unreachable 6", HostUnreachable, 6, []byte{1, 3, 0, 0, 0, 0, 0, 0}},
		{"too big 4", TooBig, 4, []byte{3, 4, 0, 0, 0, 0, 5, 0x78}},
		{"too big 6", TooBig, 6, []byte{2, 0, 0, 0, 0, 0, 5, 0x78}},
	}
	for _, tt := range tests {
		for _, size := range []int{0, 1, 500, 519, 520, 521, 2000} {
			original, source := ip4(UDP, 0, nil, udp(1, 2, make([]byte, size))), dst4
			protocol := ICMP
			if tt.version == 6 {
				original, source, protocol = ip6(UDP, udp(1, 2, make([]byte, size))), dst6, ICMPv6
			}
			got, ok := AppendError([]byte("head"), tt.cause, 1400, source, append(original, 1, 2, 3))
			if !ok || !bytes.HasPrefix(got, []byte("head")) {
				t.Fatalf("%s: %x, %v", tt.name, got, ok)
			}
			p := checkError(t, got[4:], original, source)
			message := slices.Clone(got[4+p.Upper:][:8])
			message[2], message[3] = 0, 0
			if p.Protocol != protocol || !bytes.Equal(message, tt.want) {
				t.Errorf("%s: %v, %x, want %x", tt.name, p, message, tt.want)
			}
		}
	}
}

// TestNoError: what a router must not answer, and close beside it what it may.
func TestNoError(t *testing.T) {
	from := func(b []byte, addr string) []byte { return withAddr(b, addr, 12, 8) }
	to := func(b []byte, addr string) []byte { return withAddr(b, addr, 16, 24) }
	u4, u6 := ip4(UDP, 0, nil, udp(1, 2, nil)), ip6(UDP, udp(1, 2, nil))
	icmp4 := func(typ byte) []byte { return ip4(ICMP, 0, nil, []byte{typ, 0, 0, 0, 0, 0, 0, 0}) }
	icmp6 := func(typ byte) []byte { return ip6(ICMPv6, []byte{typ, 0, 0, 0, 0, 0, 0, 0}) }
	tests := []struct {
		name     string
		original []byte
		want     bool
	}{
		{"udp4", u4, true}, {"udp6", u6, true},
		{"syn", ip4(TCP, 0, nil, tcp(1, 2, 3, tcpSYN, nil, nil)), true},
		{"unknown protocol", ip6(99, nil), true},
		{"first fragment", ip4(UDP, 0x2000, nil, udp(1, 2, nil)), true},
		{"later fragment 4", ip4(UDP, 1, nil, make([]byte, 8)), false},
		{"first fragment 6", ip6(44, frag6(UDP, 0, true, udp(1, 2, nil))), true},
		{"later fragment 6", ip6(44, frag6(UDP, 8, false, make([]byte, 8))), false},
		{"echo", icmp4(8), true}, {"echo reply", icmp4(0), true}, {"timestamp", icmp4(13), true},
		{"unreachable", icmp4(3), false}, {"source quench", icmp4(4), false}, {"redirect", icmp4(5), false},
		{"time exceeded", icmp4(11), false}, {"parameter problem", icmp4(12), false}, {"unknown type", icmp4(200), false},
		{"no type", ip4(ICMP, 0, nil, nil), false},
		{"echo 6", icmp6(128), true}, {"echo reply 6", icmp6(129), true},
		{"unreachable 6", icmp6(1), false}, {"too big 6", icmp6(2), false}, {"unknown error 6", icmp6(127), false},
		{"redirect 6", icmp6(137), false}, {"no type 6", ip6(ICMPv6, nil), false},
		{"error behind options", ip6(60, ext(ICMPv6, 0, []byte{1, 0, 0, 0, 0, 0, 0, 0})), false},
		{"from multicast", from(u4, "224.0.0.5"), false}, {"from broadcast", from(u4, "255.255.255.255"), false},
		{"from unspecified", from(u4, "0.0.0.0"), false}, {"from loopback", from(u4, "127.0.0.1"), false},
		{"to multicast", to(u4, "239.1.1.1"), false}, {"to broadcast", to(u4, "255.255.255.255"), false},
		{"to link-local", to(u4, "169.254.1.1"), false}, {"to unspecified", to(u4, "0.0.0.0"), false},
		{"from multicast 6", from(u6, "ff02::1"), false}, {"from unspecified 6", from(u6, "::"), false},
		{"to multicast 6", to(u6, "ff02::2"), false}, {"to link-local 6", to(u6, "fe80::1"), false},
		{"malformed", []byte{0x45, 0}, false},
	}
	for _, tt := range tests {
		source := dst4
		if tt.original[0]>>4 == 6 {
			source = dst6
		}
		got, ok := AppendError([]byte("dst"), HostUnreachable, 0, source, tt.original)
		if ok != tt.want || !ok && string(got) != "dst" {
			t.Errorf("%s: %x, %v", tt.name, got, ok)
		}
		if ok {
			checkError(t, got[3:], tt.original, source)
		}
	}
	for name, ok := range map[string]bool{
		"unknown cause 4":            second(AppendError(nil, 0, 0, dst4, u4)),
		"unknown cause 6":            second(AppendError(nil, 9, 0, dst6, u6)),
		"source of the other family": second(AppendError(nil, TooBig, 0, dst6, u4)),
		"no source":                  second(AppendError(nil, TooBig, 0, netip.Addr{}, u6)),
	} {
		if ok {
			t.Errorf("%s: answered", name)
		}
	}
}

func second[T any](_ T, ok bool) bool { return ok }

// withAddr puts an address at the offset of its IP version.
func withAddr(b []byte, addr string, at4, at6 int) []byte {
	b = slices.Clone(b)
	a := netip.MustParseAddr(addr)
	if a.Is4() {
		copy(b[at4:], a.AsSlice())
		putChecksum4(b[:20])
	} else {
		copy(b[at6:], a.AsSlice())
	}
	return b
}

// TestErrorOfError: no error answers an error.
func TestErrorOfError(t *testing.T) {
	for _, original := range [][]byte{ip4(UDP, 0, nil, udp(1, 2, nil)), ip6(UDP, udp(1, 2, nil))} {
		source := mustParse(t, original).Dst
		for _, cause := range []Cause{AdminProhibited, HostUnreachable, TooBig} {
			first, ok := AppendError(nil, cause, 1280, source, original)
			if !ok {
				t.Fatal("no error")
			}
			if _, ok := AppendError(nil, cause, 1280, mustParse(t, first).Dst, first); ok {
				t.Errorf("cause %d: an error about an error", cause)
			}
		}
	}
}

// TestErrorMTU keeps the MTU within its field.
func TestErrorMTU(t *testing.T) {
	u4 := ip4(UDP, 0, nil, udp(1, 2, nil))
	for mtu, want := range map[int]uint16{-1: 0, 0: 0, 1280: 1280, 70000: 65535} {
		b, ok := AppendError(nil, TooBig, mtu, dst4, u4)
		if got := binary.BigEndian.Uint16(b[26:]); !ok || got != want {
			t.Errorf("MTU %d: %d, %v", mtu, got, ok)
		}
	}
}

// TestTooBigFor: the error finds the sender of the datagrams, and says nothing of what they carry.
func TestTooBigFor(t *testing.T) {
	from, to := netip.AddrPortFrom(src6, 7601), netip.AddrPortFrom(dst6, 7602)
	b := AppendTooBigFor([]byte("head"), 1280, from, to)[len("head"):]
	p := mustParse(t, b)
	checkError(t, b, b[p.Upper+headerLenICMP:], dst6)
	if mtu := binary.BigEndian.Uint32(b[p.Upper+icmpRest:]); p.Dst != src6 || b[p.Upper] != tooBig6 || mtu != 1280 {
		t.Errorf("type %d to %v, MTU %d", b[p.Upper], p.Dst, mtu)
	}
	if f, ok := Quoted(p, b); !ok || f != (Flow{UDP, Complete, src6, dst6, 7601, 7602}) {
		t.Errorf("%v, %v", f, ok)
	}
}

func FuzzAppendError(f *testing.F) {
	f.Add(uint8(AdminProhibited), 0, ip4(UDP, 0, nil, udp(1, 2, make([]byte, 600))))
	f.Add(uint8(HostUnreachable), 0, ip6(ICMPv6, []byte{128, 0, 0, 0, 0, 0, 0, 0}))
	f.Add(uint8(TooBig), 1400, ip6(0, ext(44, 0, frag6(UDP, 0, true, udp(1, 2, make([]byte, 1400))))))
	f.Add(uint8(9), -1, ip4(ICMP, 5, nil, make([]byte, 8)))
	f.Fuzz(func(t *testing.T, cause uint8, mtu int, original []byte) {
		for _, source := range []netip.Addr{dst4, dst6} {
			b, ok := AppendError(nil, Cause(cause), mtu, source, original)
			if !ok {
				if b != nil {
					t.Fatalf("no error, but %x", b)
				}
				continue
			}
			checkError(t, b, original, source)
			if again, ok := AppendError(nil, Cause(cause), mtu, source, b); ok {
				t.Fatalf("an error about an error: %x", again)
			}
		}
	})
}

// errorAbout is the ICMP error that from sends about a packet, quoting so many bytes of it; all where that is 0.
func errorAbout(t testing.TB, cause Cause, from netip.Addr, original []byte, quoted int) []byte {
	t.Helper()
	b, ok := AppendError(nil, cause, 1300, from, original)
	if !ok {
		t.Fatal("no error may be sent about this packet")
	}
	if quoted > 0 {
		header := headerLen4
		if from.Is6() {
			header = headerLen6
		}
		b = b[:header+headerLenICMP+quoted]
		if from.Is4() {
			b[2], b[3] = byte(len(b)>>8), byte(len(b))
		} else {
			b[4], b[5] = byte((len(b)-headerLen6)>>8), byte(len(b)-headerLen6)
		}
	}
	return b
}

// TestQuoted: an error tells the flow it is about, by whomever it was sent.
func TestQuoted(t *testing.T) {
	router4, router6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	data := make([]byte, 1400)
	udp4, udp6 := ip4(UDP, 0, nil, udp(4000, 53, data)), ip6(UDP, udp(4000, 53, data))
	tcp4 := ip4(TCP, 0x4000, []byte{1, 1, 1, 0}, tcp(4000, 443, 1, tcpACK, nil, data))
	tcp6 := ip6(60, ext(TCP, 0, tcp(4000, 443, 1, tcpACK, nil, data)))
	for _, tt := range []struct {
		name     string
		pkt      []byte
		original []byte
		ports    []uint16
		protocol Protocol
		class    Class
	}{
		{"too big", errorAbout(t, TooBig, router4, tcp4, 0), tcp4, []uint16{4000, 443}, TCP, Complete},
		{"too big 6", errorAbout(t, TooBig, router6, tcp6, 0), tcp6, []uint16{4000, 443}, TCP, Complete},
		{"unreachable", errorAbout(t, HostUnreachable, dst4, udp4, 0), udp4, []uint16{4000, 53}, UDP, Complete},
		{"unreachable 6", errorAbout(t, HostUnreachable, dst6, udp6, 0), udp6, []uint16{4000, 53}, UDP, Complete},
		{"as little as may be quoted", errorAbout(t, TooBig, router4, tcp4, 24+8), tcp4, []uint16{4000, 443}, TCP, Complete},
		{"the IP header alone", errorAbout(t, TooBig, router4, tcp4, 24), tcp4, []uint16{0, 0}, TCP, ProtocolOnly},
	} {
		got, ok := Quoted(mustParse(t, tt.pkt), tt.pkt)
		want := mustParse(t, tt.original).Flow
		want.SrcPort, want.DstPort, want.Class = tt.ports[0], tt.ports[1], tt.class
		if !ok || got != want {
			t.Errorf("%s: %v %v %v, want %v", tt.name, got, got.Class, ok, want)
		}
	}
	foreign := errorAbout(t, TooBig, router4, tcp4, 0)
	copy(foreign[headerLen4+headerLenICMP+12:], router4.AsSlice()) // the quoted source
	fragment := errorAbout(t, TooBig, router4, tcp4, 0)
	fragment[6] |= moreFragments >> 8
	redirect := errorAbout(t, TooBig, router4, tcp4, 0)
	redirect[headerLen4] = 5
	for name, pkt := range map[string][]byte{
		"about somebody else's packet": foreign, "a fragment": fragment, "a redirect": redirect,
		"an echo request": ip4(ICMP, 0, nil, append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, tcp4...)), "a TCP packet": tcp4,
		"no quote": errorAbout(t, TooBig, router4, tcp4, 1), "less than an IP header": errorAbout(t, TooBig, router6, tcp6, 39),
		"of the other family": ip4(ICMP, 0, nil, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, udp6...)),
	} {
		if got, ok := Quoted(mustParse(t, pkt), pkt); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
	pkt := errorAbout(t, TooBig, router4, tcp4, 0)
	p := mustParse(t, pkt)
	noAllocs(t, "Quoted", func() {
		if _, ok := Quoted(p, pkt); !ok {
			t.Fatal("not quoted")
		}
	})
}

// FuzzQuoted: whatever is quoted, the flow is one that the error's receiver has sent.
func FuzzQuoted(f *testing.F) {
	f.Add(errorAbout(f, TooBig, dst4, ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, nil)), 0))
	f.Add(errorAbout(f, HostUnreachable, dst6, ip6(0, ext(60, 0, ext(UDP, 0, udp(1, 2, nil)))), 0))
	f.Add(errorAbout(f, AdminProhibited, dst4, ip4(UDP, moreFragments, []byte{7, 4, 4, 0}, udp(1, 2, make([]byte, 8))), 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if q, ok := Quoted(p, b); ok && (q.Src != p.Dst || q.Src.Is4() != (p.Version == 4)) {
			t.Errorf("%x: %v", b, q)
		}
	})
}
