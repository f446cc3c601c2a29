package packet

// The Internet checksum (RFC 1071) of TCP and UDP, whole or partial. Sums run over 64-bit words
// with end-around carry, which folds to the same 16 bits (RFC 1071, section 2).

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b, as big-endian 16-bit words, to acc. An odd last byte counts as the high half of a word, so only the last
// piece of what is summed may have an odd length.
func sum(acc uint64, b []byte) uint64 {
	var carry uint64
	if len(b) >= 64 {
		var swapped uint64
		swapped, b = sumSwapped(b)
		acc, carry = bits.Add64(acc, uint64(bits.ReverseBytes16(fold(swapped))), 0)
		acc += carry
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	var tail uint64
	if len(b) >= 4 {
		tail = uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) > 0 {
		tail += uint64(b[0]) << 8
	}
	acc, carry = bits.Add64(acc, tail, 0)
	return acc + carry
}

// sumSwapped sums as much of b as is a multiple of 64 bytes, and returns the rest. The bytes of each word are swapped, and
// so are those of the sum (RFC 1071, section 2 B): most CPUs load words so faster.
func sumSwapped(b []byte) (acc uint64, rest []byte) {
	var carry uint64
	for len(b) >= 64 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[32:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[40:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[48:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[56:]), carry)
		acc, carry = bits.Add64(acc, 0, carry)
		acc += carry
		b = b[64:]
	}
	return acc, b
}

// fold brings a sum to 16 bits, not complemented.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// validHeader4 verifies the checksum of an IPv4 header without options.
func validHeader4(pkt []byte) bool {
	_ = pkt[headerLen4-1]
	acc, carry := bits.Add64(binary.BigEndian.Uint64(pkt), binary.BigEndian.Uint64(pkt[8:]), 0)
	acc, carry = bits.Add64(acc, uint64(binary.BigEndian.Uint32(pkt[16:])), carry)
	return fold(acc+carry) == 0xffff
}

// pseudoSum sums the pseudo-header of size bytes of a transport protocol behind an IP header (RFC 9293, section 3.1;
// RFC 8200, section 8.1).
func pseudoSum(header []byte, protocol Protocol, size int) uint64 {
	acc := uint64(protocol) + uint64(size)
	if header[0]>>4 == 4 {
		return sum(acc, header[ip4Src:headerLen4])
	}
	return sum(acc, header[ip6Src:headerLen6])
}

// CheckPartial says whether the packet may have a partial checksum, and so be sealed with FlagPartial: an error
// where it is not an unfragmented TCP or UDP packet whose header is whole and agrees with its length. p is what Parse made
// of b.
func CheckPartial(p Packet, b []byte) error { return p.checkPartial(b) }

func (p *Packet) checkPartial(b []byte) error {
	if p.Fragment || p.Class != Complete || !p.Protocol.HasPorts() || len(b) < p.Total {
		return errPartial
	}
	size := p.Total - p.Upper
	if p.Protocol == UDP {
		if lengthUDP(b[p.Upper:]) != size {
			return errPartial
		}
		return nil
	}
	if header := transportLen(TCP, b[p.Upper:]); header < headerLenTCP || header > size {
		return errPartial
	}
	return nil
}

// putPartial writes the sum of the pseudo-header alone, not complemented, as virtio-net's NEEDS_CSUM asks (virtio 1.2,
// section 5.1.6.2). b is the packet, or begins with its headers; CheckPartial holds.
func (p *Packet) putPartial(b []byte) {
	field := b[p.Upper+checksumOffset(p.Protocol):]
	binary.BigEndian.PutUint16(field, fold(pseudoSum(b, p.Protocol, p.Total-p.Upper)))
}

// CompleteChecksum writes the whole checksum of a packet that had a partial one; what the field held does not matter.
// p is what Parse made of b. The error is CheckPartial's.
func CompleteChecksum(p Packet, b []byte) error {
	if err := p.checkPartial(b); err != nil {
		return err
	}
	field := b[p.Upper+checksumOffset(p.Protocol):][:2]
	field[0], field[1] = 0, 0
	binary.BigEndian.PutUint16(field, complement(p.Protocol, sum(pseudoSum(b, p.Protocol, p.Total-p.Upper), b[p.Upper:p.Total])))
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
func VerifyChecksum(p Packet, b []byte) bool { return p.verifyChecksum(b) }

func (p *Packet) verifyChecksum(b []byte) bool {
	if p.checkPartial(b) != nil {
		return false
	}
	upper := b[p.Upper:p.Total]
	if p.Protocol == UDP && upper[udpChecksum]|upper[udpChecksum+1] == 0 {
		return false
	}
	return fold(sum(pseudoSum(b, p.Protocol, len(upper)), upper)) == 0xffff
}
