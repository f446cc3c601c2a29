package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// Addresses of the tests' packets.
var (
	src4 = netip.MustParseAddr("10.77.0.1")
	dst4 = netip.MustParseAddr("10.77.0.2")
	src6 = netip.MustParseAddr("fd77::1")
	dst6 = netip.MustParseAddr("fd77::2")
)

// ip4 builds an IPv4 packet. fragment is flags and offset as they stand in the header.
func ip4(protocol Protocol, fragment uint16, options, payload []byte) []byte {
	b := make([]byte, headerLen4, headerLen4+len(options)+len(payload))
	b[0] = 0x40 | byte((headerLen4+len(options))/4)
	binary.BigEndian.PutUint16(b[2:], uint16(headerLen4+len(options)+len(payload)))
	binary.BigEndian.PutUint16(b[4:], 1000)
	binary.BigEndian.PutUint16(b[6:], fragment)
	b[8], b[9] = 64, byte(protocol)
	copy(b[12:], src4.AsSlice())
	copy(b[16:], dst4.AsSlice())
	b = append(b, options...)
	putChecksum4(b)
	return append(b, payload...)
}

// ip6 builds an IPv6 packet whose payload begins with header next.
func ip6(next Protocol, payload []byte) []byte {
	b := make([]byte, headerLen6, headerLen6+len(payload))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = byte(next), 64
	copy(b[8:], src6.AsSlice())
	copy(b[24:], dst6.AsSlice())
	return append(b, payload...)
}

// ext builds an extension header of 8*(1+more) bytes.
func ext(next Protocol, more int, rest []byte) []byte {
	b := make([]byte, 8+8*more)
	b[0], b[1] = byte(next), byte(more)
	return append(b, rest...)
}

// frag6 builds a fragment header.
func frag6(next Protocol, offset int, more bool, rest []byte) []byte {
	b := make([]byte, 8)
	b[0] = byte(next)
	binary.BigEndian.PutUint16(b[2:], uint16(offset))
	if more {
		b[3] |= 1
	}
	return append(b, rest...)
}

// tcp and udp build transport packets without a checksum.
func tcp(sport, dport uint16, seq uint32, flags uint8, options, payload []byte) []byte {
	b := make([]byte, headerLenTCP, headerLenTCP+len(options)+len(payload))
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[tcpSeq:], seq)
	binary.BigEndian.PutUint32(b[tcpAckSeq:], 7777)
	b[12], b[tcpFlags] = byte((headerLenTCP+len(options))/4)<<4, flags
	binary.BigEndian.PutUint16(b[14:], 512)
	return append(append(b, options...), payload...)
}

func udp(sport, dport uint16, payload []byte) []byte {
	b := make([]byte, headerLenUDP, headerLenUDP+len(payload))
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(headerLenUDP+len(payload)))
	return append(b, payload...)
}

// mustParse parses what a test built well.
func mustParse(t testing.TB, b []byte) Packet {
	p, err := Parse(b)
	if err != nil {
		t.Helper() // here, as it costs more than all else
		t.Fatalf("Parse(%x): %v", b, err)
	}
	return p
}

// summed completes the checksum of a packet a test built.
func summed(t testing.TB, b []byte) []byte {
	if err := CompleteChecksum(mustParse(t, b), b); err != nil {
		t.Helper()
		t.Fatal(err)
	}
	return b
}

// flow is one between the tests' addresses of an IP version.
func flow(c Class, p Protocol, version int, ports ...uint16) Flow {
	f := Flow{Protocol: p, Class: c, Src: src4, Dst: dst4}
	if version == 6 {
		f.Src, f.Dst = src6, dst6
	}
	if len(ports) == 2 {
		f.SrcPort, f.DstPort = ports[0], ports[1]
	}
	return f
}

var zeros = make([]byte, 32)

var parses = []struct {
	name string
	b    []byte
	want Packet
}{
	{"tcp4", ip4(TCP, 0, nil, tcp(1, 2, 0, 0, nil, nil)),
		Packet{Flow: flow(Complete, TCP, 4, 1, 2), Version: 4, Total: 40, Upper: 20}},
	{"udp4 with DF", ip4(UDP, 0x4000, nil, udp(53, 54, zeros)),
		Packet{Flow: flow(Complete, UDP, 4, 53, 54), Version: 4, Total: 60, Upper: 20, DontFragment: true}},
	{"options", ip4(UDP, 0, []byte{7, 3, 4, 1, 148, 4, 0, 0}, udp(1, 2, nil)),
		Packet{Flow: flow(Complete, UDP, 4, 1, 2), Version: 4, Total: 36, Upper: 28, Extended: true}},
	{"options end early", ip4(UDP, 0, []byte{0, 131, 3, 4}, udp(1, 2, nil)),
		Packet{Flow: flow(Complete, UDP, 4, 1, 2), Version: 4, Total: 32, Upper: 24, Extended: true}},
	{"icmp4", ip4(ICMP, 0, nil, []byte{8, 0}),
		Packet{Flow: flow(Complete, ICMP, 4), Version: 4, Total: 22, Upper: 20}},
	{"first fragment", ip4(UDP, 0x2000, nil, udp(1, 2, zeros)),
		Packet{Flow: flow(Complete, UDP, 4, 1, 2), Version: 4, Total: 60, Upper: 20, Fragment: true, MoreFragments: true}},
	{"tiny first fragment", ip4(TCP, 0x2000, nil, zeros[:8]),
		Packet{Flow: flow(ProtocolOnly, TCP, 4), Version: 4, Total: 28, Upper: 20, Fragment: true, MoreFragments: true}},
	{"later fragment", ip4(UDP, 3, nil, zeros),
		Packet{Flow: flow(ProtocolOnly, UDP, 4), Version: 4, Total: 52, Upper: 20, Fragment: true, FragmentOffset: 24}},
	{"later fragment of icmp", ip4(ICMP, 3, nil, zeros),
		Packet{Flow: flow(ProtocolOnly, ICMP, 4), Version: 4, Total: 52, Upper: 20, Fragment: true, FragmentOffset: 24}},
	{"udp header cut short", ip4(UDP, 0, nil, zeros[:7]),
		Packet{Flow: flow(ProtocolOnly, UDP, 4), Version: 4, Total: 27, Upper: 20}},
	{"tcp header cut short", ip4(TCP, 0, nil, zeros[:19]),
		Packet{Flow: flow(ProtocolOnly, TCP, 4), Version: 4, Total: 39, Upper: 20}},
	{"protocol 0 in IPv4", ip4(0, 0, nil, zeros),
		Packet{Flow: flow(Unclassified, 0, 4), Version: 4, Total: 52, Upper: 20}},
	{"protocol 44 in IPv4", ip4(44, 0, nil, zeros),
		Packet{Flow: flow(Complete, 44, 4), Version: 4, Total: 52, Upper: 20}},
	{"trailing bytes", append(ip4(UDP, 0, nil, udp(1, 2, nil)), 9, 9, 9),
		Packet{Flow: flow(Complete, UDP, 4, 1, 2), Version: 4, Total: 28, Upper: 20}},

	{"tcp6", ip6(TCP, tcp(1, 2, 0, 0, nil, nil)),
		Packet{Flow: flow(Complete, TCP, 6, 1, 2), Version: 6, Total: 60, Upper: 40, DontFragment: true}},
	{"three extensions", ip6(0, ext(43, 0, ext(60, 2, ext(UDP, 0, udp(1, 2, nil))))),
		Packet{Flow: flow(Complete, UDP, 6, 1, 2), Version: 6, Total: 88, Upper: 80, DontFragment: true, Extended: true}},
	{"trailing bytes 6", append(ip6(UDP, udp(1, 2, nil)), 9),
		Packet{Flow: flow(Complete, UDP, 6, 1, 2), Version: 6, Total: 48, Upper: 40, DontFragment: true}},
	{"no next header", ip6(59, nil),
		Packet{Flow: flow(Complete, 59, 6), Version: 6, Total: 40, Upper: 40, DontFragment: true}},
	{"AH", ip6(51, zeros),
		Packet{Flow: flow(Complete, 51, 6), Version: 6, Total: 72, Upper: 40, DontFragment: true}},
	{"atomic fragment", ip6(44, frag6(UDP, 0, false, udp(1, 2, nil))),
		Packet{Flow: flow(Complete, UDP, 6, 1, 2), Version: 6, Total: 56, Upper: 48, DontFragment: true, Extended: true,
			Fragment: true}},
	{"first fragment 6", ip6(44, frag6(60, 0, true, ext(UDP, 0, udp(1, 2, nil)))),
		Packet{Flow: flow(Complete, UDP, 6, 1, 2), Version: 6, Total: 64, Upper: 56, DontFragment: true, Extended: true,
			Fragment: true, MoreFragments: true}},
	{"tiny first fragment 6", ip6(44, frag6(TCP, 0, true, zeros[:8])),
		Packet{Flow: flow(ProtocolOnly, TCP, 6), Version: 6, Total: 56, Upper: 48, DontFragment: true, Extended: true,
			Fragment: true, MoreFragments: true}},
	{"later fragment 6", ip6(44, frag6(UDP, 16, true, zeros)),
		Packet{Flow: flow(ProtocolOnly, UDP, 6), Version: 6, Total: 80, Upper: 48, DontFragment: true, Extended: true,
			Fragment: true, MoreFragments: true, FragmentOffset: 16}},
	{"later fragment of extensions", ip6(44, frag6(60, 16, false, zeros)),
		Packet{Flow: flow(Unclassified, 0, 6), Version: 6, Total: 80, Upper: 48, DontFragment: true, Extended: true,
			Fragment: true, FragmentOffset: 16}},
}

func TestParse(t *testing.T) {
	for _, tt := range parses {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.b); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	data := make([]byte, 16)
	whole4, whole6 := ip4(UDP, 0, nil, udp(1, 2, nil)), ip6(UDP, udp(1, 2, nil))
	change := func(b []byte, at int, v ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], v)
		return b
	}
	many := udp(1, 2, nil)
	last := UDP
	for range maxExtensions + 1 {
		many, last = ext(last, 0, many), destinationOptions
	}
	srh := ext(UDP, 2, udp(1, 2, nil))
	srh[3] = 1
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, errTruncated},
		{"version 5", []byte{0x50, 0, 0, 0}, errVersion},
		{"version 0", make([]byte, 60), errVersion},
		{"short header 4", whole4[:19], errTruncated},
		{"short packet 4", whole4[:27], errTruncated},
		{"header length 4", change(whole4, 0, 0x44), errMalformed},
		{"header beyond total", change(whole4, 0, 0x4f), errMalformed},
		{"total below header", change(whole4, 2, 0, 19), errMalformed},
		{"total zero", change(whole4, 2, 0, 0), errMalformed},
		{"fragment beyond 65535", ip4(UDP, 0x1fff, nil, data), errMalformed},
		{"loose source route", ip4(UDP, 0, []byte{1, 131, 3, 4}, data), errSourceRoute},
		{"strict source route", ip4(UDP, 0, []byte{137, 3, 4, 0}, data), errSourceRoute},
		{"option of length 1", ip4(UDP, 0, []byte{7, 1, 0, 0}, data), errMalformed},
		{"option beyond header", ip4(UDP, 0, []byte{7, 5, 0, 0}, data), errMalformed},
		{"option without length", ip4(UDP, 0, []byte{1, 1, 1, 7}, data), errMalformed},
		{"short header 6", whole6[:39], errTruncated},
		{"short packet 6", whole6[:47], errTruncated},
		{"extension missing", ip6(60, nil), errMalformed},
		{"extension cut short", ip6(60, ext(UDP, 0, nil)[:7]), errMalformed},
		{"extension beyond packet", ip6(60, change(ext(UDP, 0, udp(1, 2, nil)), 1, 2)), errMalformed},
		{"hop-by-hop not first", ip6(60, ext(0, 0, ext(UDP, 0, udp(1, 2, nil)))), errMalformed},
		{"jumbogram", change(ip6(0, nil), 4, 0, 0), errMalformed},
		{"too many extensions", ip6(destinationOptions, many), errMalformed},
		{"two fragment headers", ip6(44, frag6(44, 0, true, frag6(UDP, 0, true, udp(1, 2, nil)))), errMalformed},
		{"fragment header cut short", ip6(44, make([]byte, 7)), errMalformed},
		{"fragment 6 beyond 65535", ip6(44, frag6(UDP, 0xfff8, false, data)), errMalformed},
		{"segments left", ip6(43, srh), errSourceRoute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if p, err := Parse(tt.b); !errors.Is(err, tt.want) || p != (Packet{}) {
				t.Errorf("got %+v, %v; want %v", p, err, tt.want)
			}
		})
	}
	if p := mustParse(t, ip6(destinationOptions, many[8:])); p.Class != Complete {
		t.Errorf("with %d extensions: %+v", maxExtensions, p)
	}
}

// TestUnclassifiedIsDenied gives every next header, in every position from which its classification differs, to
// selectors that name ports and to one for each other protocol: only what is known to match may match.
func TestUnclassifiedIsDenied(t *testing.T) {
	any4, any6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	data := make([]byte, 64) // ports 0, so that a default of zero would match
	positions := []struct {
		name  string
		any   netip.Prefix
		build func(Protocol) []byte
		later bool
	}{
		{"ipv4", any4, func(n Protocol) []byte { return ip4(n, 0, nil, data) }, false},
		{"ipv4 later fragment", any4, func(n Protocol) []byte { return ip4(n, 2, nil, data) }, true},
		{"ipv6", any6, func(n Protocol) []byte { return ip6(n, data) }, false},
		{"ipv6 after options", any6, func(n Protocol) []byte { return ip6(60, ext(n, 0, data)) }, false},
		{"ipv6 first fragment", any6, func(n Protocol) []byte { return ip6(44, frag6(n, 0, true, data)) }, false},
		{"ipv6 later fragment", any6, func(n Protocol) []byte { return ip6(44, frag6(n, 16, true, data)) }, true},
	}
	for _, pos := range positions {
		for n := range 256 {
			next := Protocol(n)
			p, err := Parse(pos.build(next))
			if err != nil {
				continue // dropped: denied
			}
			for _, proto := range []Protocol{TCP, UDP} {
				web := Selector{pos.any, pos.any, proto, PortRange{0, 65534}}
				if want := next == proto && !pos.later; web.Match(p.Flow) != want {
					t.Errorf("%s, next header %d: %v matches %v: %v", pos.name, n, web, p.Flow, !want)
				}
			}
			for m := 1; m < 256; m++ {
				s := Selector{pos.any, pos.any, Protocol(m), AllPorts}
				known := p.Class != Unclassified && p.Protocol == Protocol(m)
				if s.Match(p.Flow) != known || known && next != Protocol(m) && !isExtension(next) {
					t.Errorf("%s, next header %d: %v matches %v: %v", pos.name, n, s, p.Flow, !known)
				}
			}
			if all := (Selector{pos.any, pos.any, AnyProtocol, AllPorts}); !all.Match(p.Flow) {
				t.Errorf("%s, next header %d: %v does not match %v", pos.name, n, all, p.Flow)
			}
		}
	}
}

func TestForwardable(t *testing.T) {
	for addr, want := range map[string]bool{
		"10.77.0.1": true, "192.0.2.255": true, "fd77::1": true, "2001:db8::1": true,
		"0.0.0.0": false, "::": false, "127.0.0.1": false, "::1": false, "224.0.0.1": false, "239.1.2.3": false,
		"255.255.255.255": false, "169.254.1.1": false, "fe80::1": false, "ff02::2": false, "ff0e::1": false,
		"::ffff:10.0.0.1": false,
	} {
		if got := Forwardable(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Forwardable(%s) = %v", addr, got)
		}
	}
	if Forwardable(netip.Addr{}) {
		t.Error("no address is forwardable")
	}
}

func FuzzParse(f *testing.F) {
	data := make([]byte, 32)
	for _, seed := range [][]byte{
		ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, data)), ip4(UDP, 0x2000, []byte{7, 3, 4, 0}, udp(1, 2, data)),
		ip4(UDP, 5, nil, data), ip6(TCP, tcp(1, 2, 3, tcpACK, nil, nil)),
		ip6(0, ext(43, 0, ext(44, 0, frag6(60, 0, true, ext(UDP, 1, udp(1, 2, data)))))),
		ip6(44, frag6(60, 8, false, data)), {0x45}, {0x60},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if p != (Packet{}) {
				t.Fatalf("%v with %+v", err, p)
			}
			return
		}
		if p.Upper < headerLen4 || p.Upper > p.Total || p.Total > len(b) {
			t.Fatalf("upper %d, total %d, of %d bytes", p.Upper, p.Total, len(b))
		}
		if p.Class != Complete && p.SrcPort|p.DstPort != 0 || p.Class == Unclassified && p.Protocol != 0 {
			t.Fatalf("says more than it knows: %+v", p)
		}
		if p.FragmentOffset > 0 && p.Class == Complete {
			t.Fatalf("a later fragment is complete: %+v", p)
		}
		if q, err := Parse(b[:p.Total]); err != nil || q != p {
			t.Fatalf("trailing bytes mattered: %+v, %v; %+v", q, err, p)
		}
		if p.Total > 0 {
			if _, err := Parse(b[:p.Total-1]); err == nil {
				t.Fatal("a byte less parsed")
			}
		}
	})
}
