package policy

import (
	"net/netip"
	"time"

	"ssmnet/packet"
)

// Reason says why a decision fell as it did.
type Reason string

const (
	Permitted        Reason = "permitted"
	NoGrant          Reason = "no-grant"           // nothing in the document allows it
	GrantExpired     Reason = "grant-expired"      // Decision.Grant would, had its until not passed
	GrantDisabled    Reason = "grant-disabled"     // Decision.Grant would, were it not disabled
	PeerSuspended    Reason = "peer-suspended"     // one of the two
	PeerUnknown      Reason = "peer-unknown"       // one of the two
	SamePeer         Reason = "same-peer"          // a peer has no session with itself
	ForeignAddress   Reason = "foreign-address"    // the flow's source is not src's, or its destination not dst's
	TooManySelectors Reason = "too-many-selectors" // see MaxSelectors
)

// Decision is the answer to one question, and the terms that go with a yes.
type Decision struct {
	Permitted bool
	Reason    Reason
	Grant     string // id of the first grant that permits; of the one the reason speaks of; else empty
	Mirrored  bool   // the flow is permitted as the replies of one that dst may start
	Pair      Pair   // all that is permitted between the two; empty where Permitted is false
}

// Decide says whether src, the requester, may send packets of flow f to dst, the responder: as a flow it may start, or
// as replies to one that dst may start. Where f goes from what src owns to what dst owns, and no address of it belongs
// to both, that is what Pair(src, dst, now).Selectors.Permits(f) says.
func (c *Compiled) Decide(src, dst string, f packet.Flow, now time.Time) Decision {
	i, j, reason := c.two(src, dst)
	if reason != "" {
		return Decision{Reason: reason}
	}
	a, b, epoch := &c.peers[i], &c.peers[j], c.epoch(now)
	if !a.owns(f.Src) || !b.owns(f.Dst) {
		return Decision{Reason: ForeignAddress}
	}
	pair := c.pair(i, j, epoch)
	if pair.TooMany {
		return Decision{Reason: TooManySelectors}
	}
	if g, mirrored := c.permitting(a, b, f, c.inForce[epoch]); g != nil {
		return Decision{Permitted: true, Reason: Permitted, Grant: g.id, Mirrored: mirrored, Pair: pair}
	}
	g, _ := c.permitting(a, b, f, c.all)
	return dormant(g)
}

// DecidePair says whether src and dst may have a session at all, for a request that names a peer instead of a flow.
func (c *Compiled) DecidePair(src, dst string, now time.Time) Decision {
	i, j, reason := c.two(src, dst)
	if reason != "" {
		return Decision{Reason: reason}
	}
	switch pair := c.pair(i, j, c.epoch(now)); {
	case pair.TooMany:
		return Decision{Reason: TooManySelectors}
	case len(pair.Selectors) == 0:
		return Decision{Reason: NoGrant}
	default:
		return Decision{Permitted: true, Reason: Permitted, Pair: pair}
	}
}

// SuspensionAlone says whether src and dst could have a session, were neither of them suspended, as one of them is.
func (c *Compiled) SuspensionAlone(src, dst string, now time.Time) bool {
	if _, _, reason := c.two(src, dst); reason != PeerSuspended {
		return false
	}
	i, j := c.byName[src], c.byName[dst]
	return len(c.granted(newKey(i, j, c.epoch(now))).Selectors) > 0
}

// two finds the peers; the reason is empty where both can be party to a session.
func (c *Compiled) two(src, dst string) (i, j int32, reason Reason) {
	i, knownSrc := c.byName[src]
	j, knownDst := c.byName[dst]
	switch {
	case !knownSrc || !knownDst:
		return 0, 0, PeerUnknown
	case i == j:
		return 0, 0, SamePeer
	case c.peers[i].suspended || c.peers[j].suspended:
		return 0, 0, PeerSuspended
	}
	return i, j, ""
}

// permitting finds the first grant of a set that permits f from a to b: one that lets a start it, before one that lets
// b start what it answers.
func (c *Compiled) permitting(a, b *peer, f packet.Flow, set bitset) (g *grant, mirrored bool) {
	for i := range common(a.src.any, b.dst.any, set) {
		if c.starts(i, a, b, f) {
			return &c.grants[i], false
		}
	}
	r := f.Reverse()
	for i := range common(b.src.any, a.dst.any, set) {
		if c.starts(i, b, a, r) {
			return &c.grants[i], true
		}
	}
	return nil, false
}

// starts says whether grant i gives the right to start f from src to dst, which own its addresses.
func (c *Compiled) starts(i int, src, dst *peer, f packet.Flow) bool {
	g := &c.grants[i]
	if f.Src.Is4() != f.Dst.Is4() ||
		!src.has(&g.src, src.src.overlay.has(i), f.Src) || !dst.has(&g.dst, dst.dst.overlay.has(i), f.Dst) {
		return false
	}
	s := packet.Selector{Src: hostPrefix(f.Src), Dst: hostPrefix(f.Dst)}
	for _, a := range g.allow {
		s.Protocol, s.Ports = a.in(s.Src), a.Ports
		if s.Match(f) {
			return true
		}
	}
	return false
}

// has says whether an address that the peer owns is among its ends.
func (p *peer) has(s *side, overlay bool, a netip.Addr) bool {
	if s.everything || overlay && packet.Covers(p.overlay, a) {
		return true
	}
	return packet.Covers(s.literals, a)
}

func (p *peer) owns(a netip.Addr) bool { return packet.Covers(p.owned, a) }

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// dormant explains a denial by the grant that would have permitted, if there is one.
func dormant(g *grant) Decision {
	switch {
	case g == nil:
		return Decision{Reason: NoGrant}
	case g.disabled:
		return Decision{Reason: GrantDisabled, Grant: g.id}
	}
	return Decision{Reason: GrantExpired, Grant: g.id}
}
