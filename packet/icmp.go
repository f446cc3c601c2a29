package packet

// Errors: ICMP (RFC 792; RFC 1812, section 4.3.2) and ICMPv6 (RFC 4443, sections 2.4 and 3). AppendError makes them as a
// router does, whose caller limits their rate; Quoted reads those that pass.

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

// Types of messages: ICMP's (IANA, "ICMP Type Numbers") and ICMPv6's, whose errors come before all others (RFC 4443,
// section 2.1).
const (
	unreachable4      = 3
	timeExceeded4     = 11
	parameterProblem4 = 12

	unreachable6        = 1
	tooBig6             = 2
	parameterProblem6   = 4
	firstInformational6 = 128
	redirect6           = 137 // an answer to a packet all the same
)

const (
	// maxError4 and maxError6 bound the whole error packet (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4 c).
	maxError4 = 576
	maxError6 = 1280
	// errorTOS is precedence 6, internetwork control (RFC 1812, section 4.3.2.5).
	errorTOS = 0xc0
	// quoteLen is how much of a quoted packet is looked at: more than the headers of any that is not contrived.
	quoteLen = 256
)

// code4 gives ICMP type and code (RFC 792, RFC 1812, section 5.2.7.1).
func (c Cause) code4() (typ, code uint8, ok bool) {
	switch c {
	case AdminProhibited:
		return unreachable4, 13, true
	case HostUnreachable:
		return unreachable4, 1, true
	case TooBig:
		return unreachable4, 4, true
	}
	return 0, 0, false
}

// code6 gives ICMPv6 type and code (RFC 4443, sections 3.1 and 3.2).
func (c Cause) code6() (typ, code uint8, ok bool) {
	switch c {
	case AdminProhibited:
		return unreachable6, 1, true
	case HostUnreachable:
		return unreachable6, 3, true
	case TooBig:
		return tooBig6, 0, true
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
		return p.Upper < p.Total && b[p.Upper] >= firstInformational6 && b[p.Upper] != redirect6
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

func appendError4(dst []byte, cause Cause, mtu int, source, to netip.Addr, original []byte) ([]byte, bool) {
	typ, code, ok := cause.code4()
	if !ok {
		return dst, false
	}
	original = original[:min(len(original), maxError4-headerLen4-headerLenICMP)]
	start := len(dst)
	dst = appendHeader4(dst, errorTOS, ICMP, source, to, headerLenICMP+len(original))
	if cause != TooBig {
		mtu = 0
	}
	dst = append(dst, typ, code, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(max(mtu, 0), maxTotal))) // RFC 1191, section 4
	dst = append(dst, original...)
	message := dst[start+headerLen4:]
	binary.BigEndian.PutUint16(message[icmpChecksum:], ^fold(sum(0, message)))
	return dst, true
}

func appendError6(dst []byte, cause Cause, mtu int, source, to netip.Addr, original []byte) ([]byte, bool) {
	typ, code, ok := cause.code6()
	if !ok {
		return dst, false
	}
	original = original[:min(len(original), maxError6-headerLen6-headerLenICMP)]
	length := headerLenICMP + len(original)
	start := len(dst)
	dst = appendHeader6(dst, ICMPv6, source, to, length)
	if cause != TooBig {
		mtu = 0
	}
	dst = append(dst, typ, code, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(max(mtu, 0)))
	dst = append(dst, original...)
	message := dst[start+headerLen6:]
	acc := sum(pseudoSum(dst[start:], ICMPv6, length), message)
	binary.BigEndian.PutUint16(message[icmpChecksum:], ^fold(acc))
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

// Quoted reads the flow of the packet that an ICMP error reports on (RFC 792; RFC 4443, section 2.4), which the receiver
// of the error has sent. p is what Parse made of b. It returns false where b is no such error, or is about a packet that
// somebody else has sent.
func Quoted(p Packet, b []byte) (Flow, bool) {
	if p.Fragment || p.Class != Complete || p.Upper+headerLenICMP > p.Total || !reportsError(p.Protocol, p.Version, b[p.Upper]) {
		return Flow{}, false
	}
	var head [quoteLen]byte
	quote := head[:copy(head[:], b[p.Upper+headerLenICMP:p.Total])]
	// Little more than the headers is quoted, and of TCP perhaps the ports alone: what is there is parsed as if it were all.
	switch {
	case p.Version == 4 && len(quote) >= headerLen4:
		binary.BigEndian.PutUint16(quote[ip4Total:], uint16(len(quote)))
		quote[ip4Place] &^= moreFragments >> 8
	case p.Version == 6 && len(quote) >= headerLen6:
		binary.BigEndian.PutUint16(quote[ip6Length:], uint16(len(quote)-headerLen6))
	default:
		return Flow{}, false
	}
	q, err := Parse(quote)
	if err != nil || q.Version != p.Version || q.Src != p.Dst {
		return Flow{}, false
	}
	if q.Protocol.HasPorts() && q.Class == ProtocolOnly && q.FragmentOffset == 0 && q.Total-q.Upper >= 4 {
		q.Class = Complete
		q.SrcPort, q.DstPort = readPorts(quote[q.Upper:])
	}
	return q.Flow, true
}

// reportsError says whether an ICMP type is an error about a packet that was dropped. A redirect is not.
func reportsError(protocol Protocol, version int, typ uint8) bool {
	if version == 4 {
		return protocol == ICMP && (typ == unreachable4 || typ == timeExceeded4 || typ == parameterProblem4)
	}
	return protocol == ICMPv6 && typ >= unreachable6 && typ <= parameterProblem6
}
