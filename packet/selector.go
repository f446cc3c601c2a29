package packet

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
)

// PortRange is an inclusive range of destination ports. AllPorts matches also where ports are not known.
type PortRange struct {
	Lo uint16 `cbor:"1,keyasint"`
	Hi uint16 `cbor:"2,keyasint"`
}

// AllPorts is the range in which ports do not matter.
var AllPorts = PortRange{0, 65535}

// String gives the range as a policy document writes it: 443, 8000-8100, or * for all.
func (r PortRange) String() string {
	switch {
	case r == AllPorts:
		return "*"
	case r.Lo == r.Hi:
		return strconv.Itoa(int(r.Lo))
	}
	return fmt.Sprintf("%d-%d", r.Lo, r.Hi)
}

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
	return s.coversUpper(t) && CoversPrefix(s.Src, t.Src) && CoversPrefix(s.Dst, t.Dst)
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

// intersect is the selector of the flows that both match; ok is false where there are none.
func (s Selector) intersect(t Selector) (both Selector, ok bool) {
	both.Protocol, both.Ports = s.Protocol, s.Ports
	switch {
	case s.Protocol == AnyProtocol:
		both.Protocol, both.Ports = t.Protocol, t.Ports
	case t.Protocol == AnyProtocol:
	case s.Protocol != t.Protocol:
		return both, false
	case s.Protocol.HasPorts():
		both.Ports = PortRange{max(s.Ports.Lo, t.Ports.Lo), min(s.Ports.Hi, t.Ports.Hi)}
	}
	if both.Ports.Lo > both.Ports.Hi {
		return both, false
	}
	if both.Src, ok = Narrower(s.Src, t.Src); ok {
		both.Dst, ok = Narrower(s.Dst, t.Dst)
	}
	return both, ok
}

func (s Selector) String() string {
	if !s.Protocol.HasPorts() {
		return fmt.Sprintf("%s > %s %s", s.Src, s.Dst, s.Protocol)
	}
	return fmt.Sprintf("%s > %s %s/%s", s.Src, s.Dst, s.Protocol, s.Ports)
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

// cover says whether every flow that t matches is matched by one of the selectors.
func (ss Selectors) cover(t Selector) bool {
	for _, s := range ss {
		if s.Covers(t) {
			return true
		}
	}
	return false
}

// CoverAll says whether each selector of tt is covered by one of ss.
func (ss Selectors) CoverAll(tt Selectors) bool {
	for _, t := range tt {
		if !ss.cover(t) {
			return false
		}
	}
	return true
}

// MaxSelectors is how many selectors a pair may have, so that they fit one control message.
const MaxSelectors = 512

// Intersect gives selectors of the flows that both lists give the right to start, in the order of ss and none covered by
// another. Both sides of a session and the KDC come to the same list. It ends with MaxSelectors, which narrows further:
// two lists of so many may have the square of that in common, and an SSM stands still meanwhile.
func (ss Selectors) Intersect(tt Selectors) Selectors { return Selectors(nil).take(ss.common(tt)) }

// Union gives selectors of the flows that one list or the other gives the right to start, as many as a pair may have; those
// of ss go first.
func (ss Selectors) Union(tt Selectors) Selectors { return slices.Clone(ss).take(slices.Values(tt)) }

// common gives what each selector of ss has in common with those of tt.
func (ss Selectors) common(tt Selectors) iter.Seq[Selector] {
	return func(yield func(Selector) bool) {
		for _, s := range ss {
			if tt.cover(s) {
				if !yield(s) {
					return
				}
				continue
			}
			for _, t := range tt {
				if both, ok := s.intersect(t); ok && !yield(both) {
					return
				}
			}
		}
	}
}

// take adds selectors as they come, and asks for no more once there are MaxSelectors.
func (ss Selectors) take(more iter.Seq[Selector]) Selectors {
	if len(ss) >= MaxSelectors {
		return ss
	}
	for s := range more {
		if ss = ss.with(s); len(ss) == MaxSelectors {
			break
		}
	}
	return ss
}

// with adds s, unless it is covered; what it covers goes.
func (ss Selectors) with(s Selector) Selectors {
	if ss.cover(s) {
		return ss
	}
	return append(slices.DeleteFunc(ss, s.Covers), s)
}
