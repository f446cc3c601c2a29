package packet

import (
	"fmt"
	"net/netip"
)

// PortRange is an inclusive range of destination ports. AllPorts matches also where ports are not known.
type PortRange struct {
	Lo uint16 `cbor:"1,keyasint"`
	Hi uint16 `cbor:"2,keyasint"`
}

// AllPorts is the range in which ports do not matter.
var AllPorts = PortRange{0, 65535}

// Selector is a pattern of flows: the right to start flows from Src to Dst. It is a comparable value.
type Selector struct {
	Src      netip.Prefix `cbor:"1,keyasint"`
	Dst      netip.Prefix `cbor:"2,keyasint"`
	Protocol Protocol     `cbor:"3,keyasint"` // AnyProtocol matches all
	Ports    PortRange    `cbor:"4,keyasint"` // of the destination
}

// Match says whether f is a flow that the selector gives the right to start.
func (s Selector) Match(f Flow) bool {
	return s.Src.Contains(f.Src) && s.Dst.Contains(f.Dst) && s.matchUpper(f)
}

// matchUpper compares protocol and ports; what is not known about f matches only where it does not matter.
func (s Selector) matchUpper(f Flow) bool {
	if s.Protocol == AnyProtocol {
		return true
	}
	if f.Class == Unclassified || s.Protocol != f.Protocol {
		return false
	}
	if !s.Protocol.HasPorts() || s.Ports == AllPorts {
		return true
	}
	return f.Class == Complete && s.Ports.Lo <= f.DstPort && f.DstPort <= s.Ports.Hi
}

// Covers says whether every flow that t matches is matched by s.
func (s Selector) Covers(t Selector) bool {
	return prefixCovers(s.Src, t.Src) && prefixCovers(s.Dst, t.Dst) && s.coversUpper(t)
}

func (s Selector) coversUpper(t Selector) bool {
	if s.Protocol == AnyProtocol {
		return true
	}
	if s.Protocol != t.Protocol {
		return false
	}
	return !s.Protocol.HasPorts() || s.Ports.Lo <= t.Ports.Lo && t.Ports.Hi <= s.Ports.Hi
}

func prefixCovers(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

func (s Selector) String() string {
	switch {
	case !s.Protocol.HasPorts():
		return fmt.Sprintf("%s > %s %s", s.Src, s.Dst, s.Protocol)
	case s.Ports == AllPorts:
		return fmt.Sprintf("%s > %s %s/*", s.Src, s.Dst, s.Protocol)
	case s.Ports.Lo == s.Ports.Hi:
		return fmt.Sprintf("%s > %s %s/%d", s.Src, s.Dst, s.Protocol, s.Ports.Lo)
	}
	return fmt.Sprintf("%s > %s %s/%d-%d", s.Src, s.Dst, s.Protocol, s.Ports.Lo, s.Ports.Hi)
}

// Selectors are all the selectors of a pair, in both directions.
type Selectors []Selector

// Permits says whether a packet of flow f may pass between the pair: as a flow that may be started, or as a reply to
// one. It keeps no state, so a reply is recognised by its mirrored flow alone.
func (ss Selectors) Permits(f Flow) bool {
	r := f.Reverse()
	for _, s := range ss {
		if s.Match(f) || s.Match(r) {
			return true
		}
	}
	return false
}
