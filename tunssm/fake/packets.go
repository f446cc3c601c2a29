package fake

import (
	"encoding/binary"
	"net/netip"

	"ssmnet/packet"
)

// TCP flags (RFC 9293, section 3.1).
const (
	SYN = 1 << 1
	ACK = 1 << 4
)

const (
	ipv4Len, ipv6Len, tcpLen, udpLen, icmpLen = 20, 40, 20, 8, 8
	// Types of the two echo requests (RFC 792; RFC 4443, section 4.1).
	echo4, echo6 = 8, 128
)

// UDPPacket builds a UDP packet. It panics, as all builders here, where the addresses are of two families.
func UDPPacket(src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, udpLen, udpLen+len(payload))
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen+len(payload)))
	return complete(ip(src.Addr(), dst.Addr(), packet.UDP, append(b, payload...)))
}

// TCPPacket builds a TCP packet without options.
func TCPPacket(src, dst netip.AddrPort, seq uint32, flags uint8, payload []byte) []byte {
	b := make([]byte, tcpLen, tcpLen+len(payload))
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13] = tcpLen/4<<4, flags
	binary.BigEndian.PutUint16(b[14:], 65535) // window
	return complete(ip(src.Addr(), dst.Addr(), packet.TCP, append(b, payload...)))
}

// TCPFrame builds a virtio-net frame as the local stack hands it over: one TCP packet, its checksum partial, to be cut
// into segments of gso payload bytes.
func TCPFrame(src, dst netip.AddrPort, seq uint32, payload []byte, gso int) []byte {
	frame := Frame(TCPPacket(src, dst, seq, ACK, payload))
	h := packet.VirtioHeader{Flags: packet.VirtioNeedsCsum, GSOType: packet.GSOTCPv4, GSOSize: uint16(gso), CsumOffset: 16}
	h.CsumStart = ipv4Len
	if src.Addr().Is6() {
		h.GSOType, h.CsumStart = packet.GSOTCPv6, ipv6Len
	}
	h.HdrLen = h.CsumStart + tcpLen
	h.Put(frame)
	return frame
}

// EchoPacket builds an ICMP or ICMPv6 echo request.
func EchoPacket(src, dst netip.Addr, id, seq uint16, payload []byte) []byte {
	b := make([]byte, icmpLen, icmpLen+len(payload))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	b = append(b, payload...)
	if src.Is4() {
		b[0] = echo4
		binary.BigEndian.PutUint16(b[2:], ^sum(b))
		return ip(src, dst, packet.ICMP, b)
	}
	b[0] = echo6
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
	pseudo = append(pseudo, 0, 0, 0, byte(packet.ICMPv6))
	binary.BigEndian.PutUint16(b[2:], ^sum(append(pseudo, b...)))
	return ip(src, dst, packet.ICMPv6, b)
}

// Frame puts an empty virtio-net header before a packet.
func Frame(pkt []byte) []byte { return append(make([]byte, packet.VirtioLen), pkt...) }

// ip puts an IP header before upper.
func ip(src, dst netip.Addr, protocol packet.Protocol, upper []byte) []byte {
	if src.Is4() != dst.Is4() {
		panic("fake: a packet between two address families")
	}
	if src.Is6() {
		b := make([]byte, 8, ipv6Len+len(upper))
		b[0], b[6], b[7] = 0x60, byte(protocol), 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(upper)))
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		return append(b, upper...)
	}
	b := make([]byte, 12, ipv4Len+len(upper))
	b[0], b[8], b[9] = 0x45, 64, byte(protocol)
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4Len+len(upper)))
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], ^sum(b))
	return append(b, upper...)
}

// complete writes the checksum of a TCP or UDP packet.
func complete(pkt []byte) []byte {
	p, err := packet.Parse(pkt)
	if err == nil {
		err = packet.CompleteChecksum(p, pkt)
	}
	if err != nil {
		panic(err) // we built it
	}
	return pkt
}

// sum is the Internet checksum before its complement (RFC 1071).
func sum(b []byte) uint16 {
	var acc uint32
	for i := 0; i+1 < len(b); i += 2 {
		acc += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		acc += uint32(b[len(b)-1]) << 8
	}
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}
