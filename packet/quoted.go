package packet

import "encoding/binary"

// quoteLen is how much of a quoted packet is looked at: more than the headers of any that is not contrived.
const quoteLen = 256

// Quoted reads the flow of the packet that an ICMP error reports on (RFC 792; RFC 4443, section 2.4), which the receiver
// of the error has sent. p is what Parse made of b. It returns false where b is no such error, or is about a packet that
// somebody else has sent.
func Quoted(p Packet, b []byte) (Flow, bool) {
	if p.Fragment || p.Class != Complete || p.Upper+icmpHeaderLen > p.Total || !reportsError(p.Protocol, p.Version, b[p.Upper]) {
		return Flow{}, false
	}
	var head [quoteLen]byte
	quote := head[:copy(head[:], b[p.Upper+icmpHeaderLen:p.Total])]
	// Little more than the headers is quoted, and of TCP perhaps the ports alone: what is there is parsed as if it were all.
	switch {
	case p.Version == 4 && len(quote) >= headerLen4:
		binary.BigEndian.PutUint16(quote[2:], uint16(len(quote)))
		quote[6] &^= moreFragments >> 8
	case p.Version == 6 && len(quote) >= headerLen6:
		binary.BigEndian.PutUint16(quote[4:], uint16(len(quote)-headerLen6))
	default:
		return Flow{}, false
	}
	q, err := Parse(quote)
	if err != nil || q.Version != p.Version || q.Src != p.Dst {
		return Flow{}, false
	}
	if q.Protocol.HasPorts() && q.Class == ProtocolOnly && q.FragmentOffset == 0 && q.Total-q.Upper >= 4 {
		q.Class = Complete
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(quote[q.Upper:]), binary.BigEndian.Uint16(quote[q.Upper+2:])
	}
	return q.Flow, true
}

// reportsError says whether an ICMP type is an error about a packet that was dropped. A redirect is not.
func reportsError(protocol Protocol, version int, typ uint8) bool {
	if version == 4 {
		const unreachable, timeExceeded, parameterProblem = 3, 11, 12
		return protocol == ICMP && (typ == unreachable || typ == timeExceeded || typ == parameterProblem)
	}
	const unreachable, parameterProblem = 1, 4 // packet too big and time exceeded are between them
	return protocol == ICMPv6 && typ >= unreachable && typ <= parameterProblem
}
