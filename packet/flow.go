package packet

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
)

// Protocol is an IP protocol number (IPv4 protocol, or the last IPv6 next header).
type Protocol uint8

// Protocols with a meaning of their own here. In a Selector, AnyProtocol stands for all of them: number 0 is IPv6's
// hop-by-hop header, which is never an upper-layer protocol.
const (
	AnyProtocol Protocol = 0
	ICMP        Protocol = 1
	TCP         Protocol = 6
	UDP         Protocol = 17
	ICMPv6      Protocol = 58
)

// HasPorts says whether the protocol's flows are told apart by ports.
func (p Protocol) HasPorts() bool { return p == TCP || p == UDP }

// String gives the protocol as a policy document writes it: tcp, udp, icmp (both families), proto/N.
func (p Protocol) String() string {
	switch p {
	case AnyProtocol:
		return "*"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP, ICMPv6:
		return "icmp"
	}
	return fmt.Sprintf("proto/%d", uint8(p))
}

// Class says how much of a packet's flow could be read. The zero value says least, so that forgetting to set it denies.
type Class uint8

const (
	// Unclassified: the upper-layer protocol is not known (a later IPv6 fragment whose own chain began elsewhere).
	// Only a selector for any protocol matches.
	Unclassified Class = iota
	// ProtocolOnly: the protocol is known, its ports are not (a later fragment, a transport header cut short).
	// Selectors that name ports do not match.
	ProtocolOnly
	// Complete: everything a selector can ask for is known.
	Complete
)

// Flow is what selectors decide on: a packet's protocol, addresses and ports (zero where the protocol has none).
type Flow struct {
	Protocol Protocol   `cbor:"1,keyasint"`
	Class    Class      `cbor:"2,keyasint"`
	Src      netip.Addr `cbor:"3,keyasint"`
	Dst      netip.Addr `cbor:"4,keyasint"`
	SrcPort  uint16     `cbor:"5,keyasint,omitempty"`
	DstPort  uint16     `cbor:"6,keyasint,omitempty"`
}

// Reverse is the flow of the replies.
func (f Flow) Reverse() Flow {
	f.Src, f.Dst = f.Dst, f.Src
	f.SrcPort, f.DstPort = f.DstPort, f.SrcPort
	return f
}

// Later is what a later fragment shows of the flow.
func (f Flow) Later() Flow {
	f.Class, f.SrcPort, f.DstPort = min(f.Class, ProtocolOnly), 0, 0
	return f
}

func (f Flow) String() string {
	if f.Class == Unclassified {
		return fmt.Sprintf("unclassified %s > %s", f.Src, f.Dst)
	}
	if f.Class == Complete && f.Protocol.HasPorts() {
		src, dst := netip.AddrPortFrom(f.Src, f.SrcPort), netip.AddrPortFrom(f.Dst, f.DstPort)
		return fmt.Sprintf("%s %s > %s", f.Protocol, src, dst)
	}
	return fmt.Sprintf("%s %s > %s", f.Protocol, f.Src, f.Dst)
}

// Hash spreads flows evenly, and is the same for a flow and its replies. It does not withstand who wants flows to meet.
func (f Flow) Hash() uint32 {
	const one, two = 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03 // odd, and otherwise of no meaning
	mix := func(a, b uint64) uint64 {
		high, low := bits.Mul64(a^one, b^two)
		return high ^ low
	}
	end := func(a netip.Addr, port uint16) uint64 {
		b := a.As16()
		return mix(binary.NativeEndian.Uint64(b[:8])+uint64(port)*two, binary.NativeEndian.Uint64(b[8:]))
	}
	return uint32(mix(end(f.Src, f.SrcPort)+end(f.Dst, f.DstPort), uint64(f.Protocol)))
}
