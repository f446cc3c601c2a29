package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
)

// MaxSelectors is how many selectors a pair may have.
const MaxSelectors = packet.MaxSelectors

// maxRules bounds the work on one pair: how many selectors are looked at before the covered ones are removed.
const maxRules = 16 * MaxSelectors

// Pair is what the grants in force permit between two peers. Its slice is shared: it must not be written to.
type Pair struct {
	// Selectors of both directions, none covered by another, ordered by source, destination, protocol and ports.
	Selectors packet.Selectors
	// Until is the first instant at which time alone takes something away from Selectors, zero if none does.
	Until time.Time
	// TooMany: the grants come to more than MaxSelectors; Selectors is empty and every flow of the pair is denied.
	TooMany bool
}

// Pair gives what is permitted between two peers at now. Pair(a, b) and Pair(b, a) are the same. It is empty if a peer
// is unknown or suspended, and for a peer with itself.
func (c *Compiled) Pair(a, b string, now time.Time) Pair {
	i, knownA := c.byName[a]
	j, knownB := c.byName[b]
	if !knownA || !knownB {
		return Pair{}
	}
	return c.pair(i, j, c.epoch(now))
}

// pair is Pair by index, from the cache where it can be.
func (c *Compiled) pair(i, j, epoch int32) Pair {
	k := newKey(i, j, epoch)
	if p, ok := c.pairs.get(k); ok {
		return p
	}
	p := c.expand(k)
	c.pairs.put(k, p)
	return p
}

// rule is a selector and how long a grant gives it.
type rule struct {
	selector packet.Selector
	until    time.Time // zero: for ever
}

// expand makes a pair from the grants.
func (c *Compiled) expand(k key) Pair {
	if k.a == k.b || c.peers[k.a].suspended || c.peers[k.b].suspended {
		return Pair{}
	}
	return c.granted(k)
}

// granted is expand for two different peers, suspended or not.
func (c *Compiled) granted(k key) Pair {
	a, b, inForce := &c.peers[k.a], &c.peers[k.b], c.inForce[k.epoch]
	rules, fits := c.rules(nil, a, b, inForce)
	if fits {
		rules, fits = c.rules(rules, b, a, inForce)
	}
	rules = reduce(rules, MaxSelectors)
	if !fits || len(rules) > MaxSelectors {
		return Pair{TooMany: true}
	}
	return newPair(rules)
}

func newPair(rules []rule) Pair {
	if len(rules) == 0 {
		return Pair{}
	}
	p := Pair{Selectors: make(packet.Selectors, len(rules))}
	for i, r := range rules {
		p.Selectors[i] = r.selector
		if !r.until.IsZero() && (p.Until.IsZero() || r.until.Before(p.Until)) {
			p.Until = r.until
		}
	}
	slices.SortFunc(p.Selectors, compareSelectors)
	return p
}

// rules appends the rules of one direction; it gives up, false, above maxRules.
func (c *Compiled) rules(to []rule, src, dst *peer, inForce bitset) ([]rule, bool) {
	for i := range common(src.src.any, dst.dst.any, inForce) {
		g := &c.grants[i]
		tos := c.dstEnds(i, dst)
		for _, from := range c.srcEnds(i, src) {
			for _, dest := range tos {
				if from.Addr().Is4() != dest.Addr().Is4() {
					continue
				}
				if len(to)+len(g.allow) > maxRules {
					return nil, false
				}
				for _, a := range g.allow {
					s := packet.Selector{Src: from, Dst: dest, Protocol: a.in(from), Ports: a.Ports}
					to = append(to, rule{s, g.until})
				}
			}
		}
	}
	return to, true
}

// srcEnds and dstEnds give what of the peer the sides of grant i mean.
func (c *Compiled) srcEnds(i int, p *peer) []netip.Prefix {
	return p.ends(&c.grants[i].src, p.src.overlay.has(i))
}
func (c *Compiled) dstEnds(i int, p *peer) []netip.Prefix {
	return p.ends(&c.grants[i].dst, p.dst.overlay.has(i))
}

// ends gives what of the peer one side of a grant means; overlay tells that the side names the peer.
func (p *peer) ends(s *side, overlay bool) []netip.Prefix {
	switch {
	case s.everything:
		return p.owned
	case len(s.literals) == 0:
		return p.overlay
	}
	var ends []netip.Prefix
	if overlay {
		ends = slices.Clone(p.overlay)
	}
	for _, l := range s.literals {
		for _, o := range p.owned {
			if shared, ok := packet.Narrower(l, o); ok {
				ends = append(ends, shared)
			}
		}
	}
	return ends
}

// reduce removes the rules that another covers, in place. Whatever covers a rule sorts before it; of equal selectors
// the one that lasts longest comes first. It gives up at limit+1.
func reduce(rules []rule, limit int) []rule {
	slices.SortFunc(rules, func(x, y rule) int {
		return cmp.Or(compareBreadth(x.selector, y.selector), compareSelectors(x.selector, y.selector), lasting(x, y))
	})
	kept := rules[:0]
	for _, r := range rules {
		if !slices.ContainsFunc(kept, func(k rule) bool { return k.selector.Covers(r.selector) }) {
			kept = append(kept, r)
		}
		if len(kept) > limit {
			break
		}
	}
	return kept
}

func compareBreadth(s, t packet.Selector) int {
	return cmp.Or(
		cmp.Compare(s.Src.Bits(), t.Src.Bits()),
		cmp.Compare(s.Dst.Bits(), t.Dst.Bits()),
		cmp.Compare(min(s.Protocol, 1), min(t.Protocol, 1)), // AnyProtocol is 0
		cmp.Compare(t.Ports.Hi-t.Ports.Lo, s.Ports.Hi-s.Ports.Lo),
	)
}

func compareSelectors(s, t packet.Selector) int {
	return cmp.Or(
		s.Src.Compare(t.Src),
		s.Dst.Compare(t.Dst),
		cmp.Compare(s.Protocol, t.Protocol),
		cmp.Compare(s.Ports.Lo, t.Ports.Lo),
		cmp.Compare(s.Ports.Hi, t.Ports.Hi),
	)
}

func lasting(x, y rule) int {
	switch {
	case x.until.Equal(y.until):
		return 0
	case x.until.IsZero():
		return -1
	case y.until.IsZero():
		return 1
	}
	return y.until.Compare(x.until)
}
