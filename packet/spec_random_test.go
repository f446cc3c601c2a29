package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// randomPacket is made of parts that fit one another more often than not.
func randomPacket(r *rand.Rand) []byte {
	transport := make([]byte, r.IntN(48))
	for i := range transport {
		transport[i] = byte(r.Uint32())
	}
	protocol := []byte{6, 17, 6, 17, 1, 58, 50, 59, 0, 44}[r.IntN(10)]
	if len(transport) >= 14 && protocol == 6 && r.IntN(2) == 0 {
		transport[12] = byte(4+r.IntN(4)) << 4
	}
	if len(transport) >= 8 && protocol == 17 && r.IntN(4) > 0 {
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	var b []byte
	if r.IntN(2) == 0 {
		b = random4(r, protocol, transport)
	} else {
		b = random6(r, protocol, transport)
	}
	switch r.IntN(10) {
	case 0:
		b = b[:r.IntN(len(b)+1)]
	case 1:
		b = append(b, make([]byte, r.IntN(5))...)
	case 2:
		b[r.IntN(min(len(b), 64))] = byte(r.Uint32())
	}
	return b
}

func random4(r *rand.Rand, protocol byte, transport []byte) []byte {
	var options []byte
	for len(options) < 36 && r.IntN(3) == 0 {
		options = append(options, [][]byte{{1}, {0}, {148, 4, 0, 0}, {131, 3, 4}, {7, 2}, {7, 1}, {137}, {7, 9}}[r.IntN(8)]...)
	}
	options = append(options, make([]byte, -len(options)&3)...)
	b := slices.Concat(make([]byte, 20), options, transport)
	b[0] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if r.IntN(4) == 0 {
		place := []uint16{0x2000, 0x4000, 0x0001, 0x2001, 0x1ffe, 0x1fff, 0x8000}
		binary.BigEndian.PutUint16(b[6:], place[r.IntN(len(place))])
	}
	b[9] = protocol
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	return b
}

func random6(r *rand.Rand, protocol byte, transport []byte) []byte {
	next, chain := protocol, transport
	kinds := []byte{60, 44, 43, 60, 0}
	many := r.IntN(4)
	if r.IntN(8) == 0 { // so many as there may be, and one more
		kinds, many = kinds[:1], 7+r.IntN(3)
	}
	for range many { // built from the last to the first
		kind := kinds[r.IntN(len(kinds))]
		header := make([]byte, 8)
		header[0] = next
		switch {
		case kind == 44 && r.IntN(3) == 0:
			binary.BigEndian.PutUint16(header[2:], []uint16{1, 8, 9, 0xfff8, 6}[r.IntN(5)])
		case kind == 43 && r.IntN(8) == 0:
			header[3] = 1
		case kind != 44 && r.IntN(4) == 0:
			header, header[1] = append(header, make([]byte, 8)...), 1
		}
		next, chain = kind, append(header, chain...)
	}
	return around6(next, chain)
}

// around6 puts an IPv6 header in front of a chain of headers that begins with next.
func around6(next byte, chain []byte) []byte {
	b := append(make([]byte, 40), chain...)
	b[0], b[6] = 0x60, next
	binary.BigEndian.PutUint16(b[4:], uint16(len(chain)))
	copy(b[8:], netip.MustParseAddr("fd00::1").AsSlice())
	copy(b[24:], netip.MustParseAddr("fd00::2").AsSlice())
	return b
}
