package policy

import (
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
)

// Routes gives the subnets of other peers, or what of them the grants in force name, that the named peer may exchange
// packets with in either direction; overlay addresses are not among them. None lies in another; they are ordered.
func (c *Compiled) Routes(name string, now time.Time) []netip.Prefix {
	i, known := c.byName[name]
	if !known {
		return nil
	}
	var routes []netip.Prefix
	epoch := c.epoch(now)
	for j := range c.peers {
		if len(c.peers[j].subnets()) == 0 {
			continue
		}
		for _, s := range c.expand(key{i, int32(j), epoch}).Selectors {
			for _, end := range [...]netip.Prefix{s.Src, s.Dst} {
				if c.peers[j].leadsTo(end) && !within(end, c.peers[i].owned) {
					routes = append(routes, end)
				}
			}
		}
	}
	return outermost(routes)
}

func (p *peer) subnets() []netip.Prefix { return p.owned[len(p.overlay):] }

// leadsTo says whether an end of a selector is behind the peer, and not the peer itself. A peer that leads everywhere
// (0.0.0.0/0) has its own overlay address in its subnets.
func (p *peer) leadsTo(end netip.Prefix) bool {
	return within(end, p.subnets()) && !within(end, p.overlay)
}

func within(p netip.Prefix, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(q netip.Prefix) bool {
		return packet.CoversPrefix(q, p)
	})
}

// outermost sorts prefixes and removes, in place, those that lie in another. In this order a prefix comes before all
// that lies in it.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	kept := prefixes[:0]
	for _, p := range prefixes {
		if n := len(kept); n == 0 || !within(p, kept[n-1:]) {
			kept = append(kept, p)
		}
	}
	return kept
}
