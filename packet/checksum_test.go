package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// slowSum is the oracle: RFC 1071 as it is written, byte pairs into a wide sum.
func slowSum(parts ...[]byte) uint16 {
	var acc uint32
	for _, b := range parts {
		for i, v := range b {
			if i%2 == 0 {
				acc += uint32(v) << 8
			} else {
				acc += uint32(v)
			}
			acc = acc>>16 + acc&0xffff
		}
	}
	return uint16(acc>>16 + acc&0xffff)
}

// slowPseudo is the pseudo-header as RFC 9293, section 3.1, and RFC 8200, section 8.1, lay it out.
func slowPseudo(p Packet) []byte {
	length := p.Total - p.Upper
	b := append(p.Src.AsSlice(), p.Dst.AsSlice()...)
	if p.Version == 4 {
		return append(b, 0, byte(p.Protocol), byte(length>>8), byte(length))
	}
	return append(b, 0, 0, byte(length>>8), byte(length), 0, 0, 0, byte(p.Protocol))
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := randomBytes(r, n)
		if got, want := fold(sum(0, b)), slowSum(b); got != want {
			t.Fatalf("%d bytes: %#x, want %#x", n, got, want)
		}
		for i := range b {
			b[i] = 0xff // every addition carries
		}
		if got, want := fold(sum(^uint64(0), b)), slowSum([]byte{0xff, 0xff}, b); got != want {
			t.Fatalf("%d bytes of 0xff: %#x, want %#x", n, got, want)
		}
	}
	// RFC 1071, section 3.
	if got := fold(sum(0, []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7})); got != 0xddf2 {
		t.Errorf("RFC 1071 example: %#x", got)
	}
}

func TestChecksums(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 200 {
		payload := randomBytes(r, n)
		for _, b := range [][]byte{
			ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, []byte{1, 1, 1, 0}, payload)), ip4(UDP, 0, nil, udp(1, 2, payload)),
			ip6(TCP, tcp(1, 2, 3, tcpACK, nil, payload)), ip6(60, ext(UDP, 0, udp(1, 2, payload))),
		} {
			p := mustParse(t, b)
			field := b[p.Upper+checksumOffset(p.Protocol):][:2]
			p.putPartial(b)
			if got, want := binary.BigEndian.Uint16(field), slowSum(slowPseudo(p)); got != want {
				t.Fatalf("partial %v: %#x, want %#x", p, got, want)
			}
			if err := CompleteChecksum(p, b); err != nil {
				t.Fatal(err)
			}
			if got := slowSum(slowPseudo(p), b[p.Upper:]); got != 0xffff {
				t.Fatalf("complete %v: sums to %#x", p, got)
			}
			if !VerifyChecksum(p, b) {
				t.Fatalf("complete %v does not verify", p)
			}
			field[0] ^= 1 << (n % 8)
			if VerifyChecksum(p, b) {
				t.Fatalf("%v verifies with a wrong checksum", p)
			}
		}
	}
}

// TestChecksumZero finds a UDP packet whose sum comes to zero: it is sent as 0xffff, and zero never verifies.
func TestChecksumZero(t *testing.T) {
	b := ip4(UDP, 0, nil, udp(1, 2, []byte{0, 0}))
	p := mustParse(t, b)
	binary.BigEndian.PutUint16(b[28:], ^slowSum(slowPseudo(p), b[20:]))
	if err := CompleteChecksum(p, b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b[26:28], []byte{0xff, 0xff}) || !VerifyChecksum(p, b) {
		t.Errorf("checksum field is %x", b[26:28])
	}
	b[26], b[27] = 0, 0
	if VerifyChecksum(p, b) {
		t.Error("a UDP packet without a checksum verifies")
	}
	b = ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, []byte{0, 0}))
	p = mustParse(t, b)
	binary.BigEndian.PutUint16(b[40:], ^slowSum(slowPseudo(p), b[20:]))
	if err := CompleteChecksum(p, b); err != nil || b[36]|b[37] != 0 || !VerifyChecksum(p, b) {
		t.Errorf("TCP: %v, field %x", err, b[36:38])
	}
}

func TestCheckPartial(t *testing.T) {
	data := make([]byte, 40)
	change := func(b []byte, at int, v byte) []byte {
		b = slices.Clone(b)
		b[at] = v
		return b
	}
	tcp4, udp4 := ip4(TCP, 0, nil, tcp(1, 2, 3, tcpACK, nil, data)), ip4(UDP, 0, nil, udp(1, 2, data))
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"tcp4", tcp4, nil},
		{"udp4", udp4, nil},
		{"tcp4 with IP options", ip4(TCP, 0, []byte{1, 1, 1, 0}, tcp(1, 2, 3, 0, nil, nil)), nil},
		{"udp6 behind options", ip6(60, ext(UDP, 0, udp(1, 2, data))), nil},
		{"icmp", ip4(ICMP, 0, nil, data), errPartial},
		{"unknown protocol", ip6(99, data), errPartial},
		{"first fragment", ip4(UDP, 0x2000, nil, udp(1, 2, data)), errPartial},
		{"later fragment", ip4(UDP, 1, nil, data), errPartial},
		{"atomic fragment", ip6(44, frag6(UDP, 0, false, udp(1, 2, data))), errPartial},
		{"header cut short", ip4(TCP, 0, nil, data[:19]), errPartial},
		{"tcp header too short", change(tcp4, 32, 0x40), errPartial},
		{"tcp header beyond packet", ip4(TCP, 0, nil, change(tcp(1, 2, 3, 0, nil, nil), 12, 0x60)), errPartial},
		{"udp longer than packet", change(udp4, 25, 49), errPartial},
		{"udp shorter than packet", change(udp4, 25, 47), errPartial},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := mustParse(t, tt.b)
			for name, f := range map[string]func(Packet, []byte) error{
				"CheckPartial": CheckPartial, "CompleteChecksum": CompleteChecksum,
			} {
				b := slices.Clone(tt.b)
				if err := f(p, b); !errors.Is(err, tt.want) {
					t.Errorf("%s: %v, want %v", name, err, tt.want)
				} else if err != nil && !bytes.Equal(b, tt.b) {
					t.Errorf("%s refused the packet and changed it", name)
				}
			}
			if err := CheckPartial(p, tt.b[:len(tt.b)-1]); err == nil {
				t.Error("accepted with a byte missing")
			}
		})
	}
}
