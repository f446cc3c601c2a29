package packet

// The Internet checksum (RFC 1071) of TCP and UDP, whole or partial, and of the IPv4 header. Sums run over 64-bit words
// with end-around carry, which folds to the same 16 bits (RFC 1071, section 2).

import (
	"encoding/binary"
	"math/bits"
)

// Offsets of the checksum field.
const (
	checksumIPv4   = 10
	checksumTCP    = 16
	checksumUDP    = 6
	checksumICMP   = 2
	udpLengthField = 4
)

// checksumOffset is where TCP or UDP keep their checksum, from the start of the transport header.
func checksumOffset(p Protocol) int {
	if p == TCP {
		return checksumTCP
	}
	return checksumUDP
}

// sum adds b, as big-endian 16-bit words, to acc. An odd last byte counts as the high half of a word, so only the last
// piece of what is summed may have an odd length.
func sum(acc uint64, b []byte) uint64 {
	var carry uint64
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, 0, carry)
		acc += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(tail[:]), 0)
	return acc + carry
}

// fold brings a sum to 16 bits, not complemented.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// pseudoSum sums the pseudo-header of the packet's transport protocol (RFC 9293, section 3.1; RFC 8200, section 8.1).
func pseudoSum(p Packet, b []byte) uint64 {
	acc := uint64(p.Protocol) + uint64(p.Total-p.Upper)
	if p.Version == 4 {
		return sum(acc, b[12:20])
	}
	return sum(acc, b[8:40])
}

// CheckPartial says whether the packet may have a partial checksum, and so be sealed with FlagPartial: nil, or
// ErrPartial where it is not an unfragmented TCP or UDP packet whose header is whole and agrees with its length.
// p is what Parse made of b.
func CheckPartial(p Packet, b []byte) error {
	if p.Fragment || p.Class != Complete || !p.Protocol.HasPorts() || len(b) < p.Total {
		return ErrPartial
	}
	size := p.Total - p.Upper
	if p.Protocol == UDP {
		if int(binary.BigEndian.Uint16(b[p.Upper+udpLengthField:])) != size {
			return ErrPartial
		}
		return nil
	}
	if header := tcpHeaderLen(b[p.Upper:]); header < headerLenTCP || header > size {
		return ErrPartial
	}
	return nil
}

// tcpHeaderLen is the data offset of a TCP header, in bytes.
func tcpHeaderLen(tcp []byte) int { return int(tcp[tcpOffset]>>4) * 4 }

// PutPartialChecksum writes the sum of the pseudo-header alone, not complemented, as virtio-net's NEEDS_CSUM asks
// (virtio 1.2, section 5.1.6.2). p is what Parse made of b. The error is CheckPartial's.
func PutPartialChecksum(p Packet, b []byte) error {
	if err := CheckPartial(p, b); err != nil {
		return err
	}
	putPartial(p, b)
	return nil
}

// putPartial is PutPartialChecksum where CheckPartial holds.
func putPartial(p Packet, b []byte) {
	binary.BigEndian.PutUint16(b[p.Upper+checksumOffset(p.Protocol):], fold(pseudoSum(p, b)))
}

// CompleteChecksum writes the whole checksum of a packet that had a partial one; what the field held does not matter.
// p is what Parse made of b. The error is CheckPartial's.
func CompleteChecksum(p Packet, b []byte) error {
	if err := CheckPartial(p, b); err != nil {
		return err
	}
	field := b[p.Upper+checksumOffset(p.Protocol):][:2]
	field[0], field[1] = 0, 0
	binary.BigEndian.PutUint16(field, complement(p.Protocol, sum(pseudoSum(p, b), b[p.Upper:p.Total])))
	return nil
}

// complement folds and complements a sum. In UDP zero means that there is no checksum, so its other form stands for it
// (RFC 768).
func complement(p Protocol, acc uint64) uint16 {
	c := ^fold(acc)
	if c == 0 && p == UDP {
		return 0xffff
	}
	return c
}

// VerifyChecksum says whether an unfragmented TCP or UDP packet has a whole checksum and it is right. UDP without a
// checksum has nothing to verify, so it does not. p is what Parse made of b.
func VerifyChecksum(p Packet, b []byte) bool {
	if CheckPartial(p, b) != nil {
		return false
	}
	upper := b[p.Upper:p.Total]
	if p.Protocol == UDP && upper[checksumUDP]|upper[checksumUDP+1] == 0 {
		return false
	}
	return fold(sum(pseudoSum(p, b), upper)) == 0xffff
}

// putChecksum4 writes the IPv4 header checksum (RFC 791, section 3.1).
func putChecksum4(header []byte) {
	header[checksumIPv4], header[checksumIPv4+1] = 0, 0
	binary.BigEndian.PutUint16(header[checksumIPv4:], ^fold(sum(0, header)))
}
