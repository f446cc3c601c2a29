package packet

// The headers inside a packet as they stand on the wire, offsets in bytes, and what every step that makes or mends one
// does alike.

import (
	"encoding/binary"
	"net/netip"
)

// IPv4 (RFC 791, section 3.1):
//
//	version(4) words(4) TOS(8) total length(16) | identification(16) flags(3) offset(13) |
//	TTL(8) protocol(8) checksum(16) | source(32) | destination(32) | options
const (
	headerLen4 = 20 // without options

	ip4TOS      = 1
	ip4Total    = 2
	ip4ID       = 4
	ip4Place    = 6 // flags and offset
	ip4TTL      = 8
	ip4Protocol = 9
	ip4Checksum = 10
	ip4Src      = 12
	ip4Dst      = 16

	dontFragment   = 0x4000 // in the place
	moreFragments  = 0x2000
	fragmentOffset = 0x1fff // in units of 8 bytes

	optionEnd         = 0 // types of options; those without a length come first
	optionNop         = 1
	optionLooseRoute  = 131
	optionStrictRoute = 137
	optionCopied      = 0x80 // in a type: the option stands in every fragment
)

// IPv6 (RFC 8200, section 3):
//
//	version(4) traffic class(8) flow label(20) | payload length(16) next header(8) hop limit(8) |
//	source(128) | destination(128)
const (
	headerLen6 = 40

	ip6Length   = 4
	ip6Next     = 6
	ip6HopLimit = 7
	ip6Src      = 8
	ip6Dst      = 24
)

// TCP (RFC 9293, section 3.1):
//
//	source port(16) destination port(16) | sequence number(32) | acknowledgement(32) |
//	words(4) reserved(4) flags(8) window(16) | checksum(16) urgent pointer(16) | options
const (
	headerLenTCP = 20 // without options

	tcpSeq      = 4
	tcpAckSeq   = 8
	tcpWords    = 12
	tcpFlags    = 13
	tcpWindow   = 14
	tcpChecksum = 16
	tcpUrgent   = 18

	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpPSH = 1 << 3
	tcpACK = 1 << 4
	tcpURG = 1 << 5
	tcpECE = 1 << 6 // RFC 3168
	tcpCWR = 1 << 7
)

// UDP (RFC 768):
//
//	source port(16) destination port(16) | length(16) checksum(16)
const (
	headerLenUDP = 8

	udpLength   = 4
	udpChecksum = 6
)

// ICMP (RFC 792) and ICMPv6 (RFC 4443, section 2.1):
//
//	type(8) code(8) checksum(16) | depends on the type(32)
const (
	headerLenICMP = 8

	icmpChecksum = 2
	icmpRest     = 4
)

// maxTotal bounds an IPv4 packet and the payload of an IPv6 packet.
const maxTotal = 65535

// readPorts reads the ports with which a TCP or UDP header begins.
func readPorts(upper []byte) (src, dst uint16) {
	return binary.BigEndian.Uint16(upper), binary.BigEndian.Uint16(upper[2:])
}

// transportLen is the length of a TCP or UDP header. It is only to be trusted after CheckPartial.
func transportLen(p Protocol, upper []byte) int {
	if p == TCP {
		return int(upper[tcpWords]>>4) * 4
	}
	return headerLenUDP
}

// checksumOffset is where TCP or UDP keep their checksum, from the start of the transport header.
func checksumOffset(p Protocol) int {
	if p == TCP {
		return tcpChecksum
	}
	return udpChecksum
}

// lengthUDP is what the UDP header says of itself and what follows.
func lengthUDP(udp []byte) int { return int(binary.BigEndian.Uint16(udp[udpLength:])) }

func putLengthUDP(udp []byte, length int) {
	binary.BigEndian.PutUint16(udp[udpLength:], uint16(length))
}

// putTotal has the IP header with which packet begins tell a length of total, and makes IPv4's checksum right.
func putTotal(packet []byte, total int) {
	if packet[0]>>4 == 6 {
		binary.BigEndian.PutUint16(packet[ip6Length:], uint16(total-headerLen6))
		return
	}
	binary.BigEndian.PutUint16(packet[ip4Total:], uint16(total))
	putChecksum4(packet[:int(packet[0]&0xf)*4])
}

// putChecksum4 writes the IPv4 header checksum.
func putChecksum4(header []byte) {
	header[ip4Checksum], header[ip4Checksum+1] = 0, 0
	binary.BigEndian.PutUint16(header[ip4Checksum:], ^fold(sum(0, header)))
}

// ownTTL is that of the packets made here.
const ownTTL = 64

// appendHeader4 appends an IPv4 header for length bytes behind it. It has DF, so that identification 0 may repeat
// (RFC 6864, section 4.1).
func appendHeader4(dst []byte, tos byte, protocol Protocol, from, to netip.Addr, length int) []byte {
	src, to4 := from.As4(), to.As4()
	start := len(dst)
	dst = append(dst, 4<<4|headerLen4/4, tos)
	dst = binary.BigEndian.AppendUint16(dst, uint16(headerLen4+length))
	dst = append(dst, 0, 0, dontFragment>>8, 0, ownTTL, byte(protocol), 0, 0)
	dst = append(append(dst, src[:]...), to4[:]...)
	putChecksum4(dst[start:])
	return dst
}

// appendHeader6 is the same for IPv6.
func appendHeader6(dst []byte, protocol Protocol, from, to netip.Addr, length int) []byte {
	src, to6 := from.As16(), to.As16()
	dst = append(dst, 6<<4, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, byte(protocol), ownTTL)
	return append(append(dst, src[:]...), to6[:]...)
}
