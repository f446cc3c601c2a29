package packet

// Errors as a router makes them: ICMP (RFC 792; RFC 1812, section 4.3.2) and ICMPv6 (RFC 4443, sections 2.4 and 3). The
// caller limits their rate.

import (
	"encoding/binary"
	"net/netip"
)

// Cause is why a packet is answered with an error.
type Cause uint8

const (
	AdminProhibited Cause = 1 // policy denies the flow
	HostUnreachable Cause = 2 // no session can be had: offline, unknown destination, no KDC
	TooBig          Cause = 3 // longer than the path's MTU
)

const (
	icmpHeaderLen = 8
	// maxError4 and maxError6 bound the whole error packet (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4 c).
	maxError4 = 576
	maxError6 = 1280
	ownTTL    = 64
	// errorTOS is precedence 6, internetwork control (RFC 1812, section 4.3.2.5).
	errorTOS = 0xc0
)

// code4 gives ICMP type and code (RFC 792, RFC 1812, section 5.2.7.1).
func (c Cause) code4() (typ, code uint8, ok bool) {
	switch c {
	case AdminProhibited:
		return 3, 13, true
	case HostUnreachable:
		return 3, 1, true
	case TooBig:
		return 3, 4, true
	}
	return 0, 0, false
}

// code6 gives ICMPv6 type and code (RFC 4443, sections 3.1 and 3.2).
func (c Cause) code6() (typ, code uint8, ok bool) {
	switch c {
	case AdminProhibited:
		return 1, 1, true
	case HostUnreachable:
		return 1, 3, true
	case TooBig:
		return 2, 0, true
	}
	return 0, 0, false
}

// AppendError appends to dst the IP packet, from source to the sender of original, that reports why original was
// dropped, and quotes as much of it as may be. mtu, in bytes, counts for TooBig alone. It returns false, and dst as it
// was, where no error may be sent: original does not parse, is an ICMP error itself or a later fragment, or one of its
// addresses is not that of one host; or source is not of its IP version. It allocates only where dst lacks the
// capacity.
func AppendError(dst []byte, cause Cause, mtu int, source netip.Addr, original []byte) ([]byte, bool) {
	p, err := Parse(original)
	if err != nil || !answerable(p, original) || !source.IsValid() || source.Is4() != (p.Version == 4) {
		return dst, false
	}
	original = original[:p.Total]
	if p.Version == 4 {
		return appendError4(dst, cause, mtu, source, p.Src, original)
	}
	return appendError6(dst, cause, mtu, source, p.Src, original)
}

// answerable says whether a router may answer the packet with an error at all (RFC 1812, section 4.3.2.7; RFC 4443,
// section 2.4 e).
func answerable(p Packet, b []byte) bool {
	if p.FragmentOffset > 0 || !Forwardable(p.Src) || !Forwardable(p.Dst) {
		return false
	}
	switch {
	case p.Version == 4 && p.Protocol == ICMP:
		return p.Upper < p.Total && isQuery4(b[p.Upper])
	case p.Version == 6 && p.Protocol == ICMPv6:
		const firstInformational, redirect = 128, 137
		return p.Upper < p.Total && b[p.Upper] >= firstInformational && b[p.Upper] != redirect
	}
	return true
}

// isQuery4 says whether an ICMP type is known to be no error (IANA, "ICMP Type Numbers").
func isQuery4(typ uint8) bool {
	switch typ {
	case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18, 42, 43:
		return true
	}
	return false
}

// appendHeader4 appends an IPv4 header for length bytes behind it.
func appendHeader4(dst []byte, tos byte, protocol Protocol, from, to netip.Addr, length int) []byte {
	src, to4 := from.As4(), to.As4()
	start := len(dst)
	dst = append(dst, 0x45, tos)
	dst = binary.BigEndian.AppendUint16(dst, uint16(headerLen4+length))
	dst = append(dst, 0, 0, 0x40, 0, ownTTL, byte(protocol), 0, 0) // DF, so that identification 0 may repeat (RFC 6864)
	dst = append(append(dst, src[:]...), to4[:]...)
	putChecksum4(dst[start:])
	return dst
}

// appendHeader6 is the same for IPv6.
func appendHeader6(dst []byte, protocol Protocol, from, to netip.Addr, length int) []byte {
	src, to6 := from.As16(), to.As16()
	dst = append(dst, 0x60, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	dst = append(dst, byte(protocol), ownTTL)
	return append(append(dst, src[:]...), to6[:]...)
}

func appendError4(dst []byte, cause Cause, mtu int, source, to netip.Addr, original []byte) ([]byte, bool) {
	typ, code, ok := cause.code4()
	if !ok {
		return dst, false
	}
	original = original[:min(len(original), maxError4-headerLen4-icmpHeaderLen)]
	start := len(dst)
	dst = appendHeader4(dst, errorTOS, ICMP, source, to, icmpHeaderLen+len(original))
	if cause != TooBig {
		mtu = 0
	}
	dst = append(dst, typ, code, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(max(mtu, 0), maxTotal))) // RFC 1191, section 4
	dst = append(dst, original...)
	message := dst[start+headerLen4:]
	binary.BigEndian.PutUint16(message[checksumICMP:], ^fold(sum(0, message)))
	return dst, true
}

func appendError6(dst []byte, cause Cause, mtu int, source, to netip.Addr, original []byte) ([]byte, bool) {
	typ, code, ok := cause.code6()
	if !ok {
		return dst, false
	}
	original = original[:min(len(original), maxError6-headerLen6-icmpHeaderLen)]
	length := icmpHeaderLen + len(original)
	start := len(dst)
	dst = appendHeader6(dst, ICMPv6, source, to, length)
	if cause != TooBig {
		mtu = 0
	}
	dst = append(dst, typ, code, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(max(mtu, 0)))
	dst = append(dst, original...)
	made := Packet{Flow: Flow{Protocol: ICMPv6}, Version: 6, Total: headerLen6 + length, Upper: headerLen6}
	message := dst[start+headerLen6:]
	acc := sum(pseudoSum(made, dst[start:]), message)
	binary.BigEndian.PutUint16(message[checksumICMP:], ^fold(acc))
	return dst, true
}

// AppendTooBigFor appends the IPv6 packet by which a router tells from that its UDP datagrams to to must not be longer
// than mtu (RFC 4443, section 3.2). It quotes headers alone, which is enough to find the sender.
func AppendTooBigFor(dst []byte, mtu int, from, to netip.AddrPort) []byte {
	original := appendHeader6(nil, UDP, from.Addr(), to.Addr(), headerLenUDP)
	original = binary.BigEndian.AppendUint16(original, from.Port())
	original = binary.BigEndian.AppendUint16(original, to.Port())
	original = append(original, 0, headerLenUDP, 0, 0)
	dst, _ = appendError6(dst, TooBig, mtu, to.Addr(), from.Addr(), original)
	return dst
}
