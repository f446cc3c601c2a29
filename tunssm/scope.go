package tunssm

import (
	"net/netip"
	"slices"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// scope is what a session may carry. It is immutable: the loops read it by an atomic pointer, the acquirer replaces it.
type scope struct {
	selectors packet.Selectors
	asOf      control.AsOf   // of the decision that gave them, or of the one that narrowed them last
	whole     bool           // they are all that policy permitted then; otherwise another session may have more
	lost      []netip.Prefix // subnets of the peer's that they have ceased to lead into
}

// touch says whether selectors lead into a prefix of the peer's. Where they have ceased to lead into a subnet, another peer
// may have it now: there may be more in a session with that one.
func touch(ss packet.Selectors, p netip.Prefix) bool {
	return slices.ContainsFunc(ss, func(s packet.Selector) bool { return s.Src.Overlaps(p) || s.Dst.Overlaps(p) })
}

// final says whether no other session could permit more than this one, as far as is known of policy.
func (c *scope) final(newest control.AsOf) bool { return c.whole && !c.asOf.Before(newest) }

// permits says whether s may carry the flow now.
func (s *session) permits(f packet.Flow) bool { return s.scope.Load().selectors.Permits(f) }

// carries says whether s may carry a packet now, of which p is what Parse made of b: one of a flow that it permits, or an
// ICMP error about such a flow (package packet, "Selectors"). No error comes from a subnet that the peer may have lost.
func (s *session) carries(p packet.Packet, b []byte) bool {
	scope := s.scope.Load()
	if scope.selectors.Permits(p.Flow) {
		return true
	}
	quoted, ok := packet.Quoted(p, b)
	return ok && scope.selectors.Permits(quoted) && !packet.Covers(scope.lost, p.Src)
}
