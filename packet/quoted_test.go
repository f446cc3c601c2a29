package packet

import (
	"net/netip"
	"testing"
)

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
		b = b[:header+icmpHeaderLen+quoted]
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
	copy(foreign[headerLen4+icmpHeaderLen+12:], router4.AsSlice()) // the quoted source
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
