package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
)

// builder resolves the names of grants into the reaches of peers. It asks, for each name, which peers it names, and
// never visits all peers for a grant.
type builder struct {
	c      *Compiled
	doc    *Document
	byTag  map[string][]int32
	owners []owner                  // by prefix: address, then length
	owning map[netip.Prefix][]int32 // the same, by prefix
	// everything holds the grants with "*" on the side; they are added to every peer at the end.
	everythingSrc, everythingDst bitset
}

// owner is one thing that a peer owns.
type owner struct {
	prefix netip.Prefix
	peer   int32
}

func newBuilder(c *Compiled, doc *Document, peers []Peer) *builder {
	b := &builder{
		c: c, doc: doc, byTag: map[string][]int32{}, owning: map[netip.Prefix][]int32{},
		everythingSrc: newBitset(len(c.grants)), everythingDst: newBitset(len(c.grants)),
	}
	for i, p := range peers {
		for _, t := range p.Tags {
			b.byTag[t] = append(b.byTag[t], int32(i))
		}
		for _, q := range c.peers[i].owned {
			b.owners = append(b.owners, owner{q, int32(i)})
			b.owning[q] = append(b.owning[q], int32(i))
		}
	}
	slices.SortFunc(b.owners, func(x, y owner) int { return comparePrefixes(x.prefix, y.prefix) })
	return b
}

func comparePrefixes(p, q netip.Prefix) int {
	return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
}

func (b *builder) addGrant(i int, g *Grant) error {
	to := &b.c.grants[i]
	*to = grant{id: g.ID, allow: g.Allow, until: g.Until, disabled: g.Disabled}
	for _, n := range g.Src {
		if err := b.addName(i, n, &to.src, b.everythingSrc, func(p *peer) *reach { return &p.src }); err != nil {
			return err
		}
	}
	for _, n := range g.Dst {
		if err := b.addName(i, n, &to.dst, b.everythingDst, func(p *peer) *reach { return &p.dst }); err != nil {
			return err
		}
	}
	return nil
}

// addName resolves one name of grant i on the side that reachOf tells.
func (b *builder) addName(i int, n Name, s *side, everything bitset, reachOf func(*peer) *reach) error {
	switch n.Kind {
	case NameEverything:
		s.everything = true
		everything.add(i)
	case NameNet, NamePrefix:
		p, err := b.literal(n)
		if err != nil {
			return err
		}
		s.literals = append(s.literals, p)
		for _, j := range b.touching(p) {
			reachOf(&b.c.peers[j]).any.add(i)
		}
	default:
		named, err := b.named(n)
		if err != nil {
			return err
		}
		for _, j := range named {
			r := reachOf(&b.c.peers[j])
			r.any.add(i)
			r.overlay.add(i)
		}
	}
	return nil
}

func (b *builder) literal(n Name) (netip.Prefix, error) {
	if n.Kind == NamePrefix {
		return n.Prefix, nil
	}
	net, ok := b.doc.Nets[n.Text]
	if !ok {
		return netip.Prefix{}, Error{n.Place.Line, n.Place.Column, fmt.Sprintf("net %s is not defined", quote(n.Text))}
	}
	return net.Prefix, nil
}

// named gives the peers that a bare name, a tag or a group names.
func (b *builder) named(n Name) ([]int32, error) {
	switch n.Kind {
	case NameTag:
		return b.byTag[n.Text], nil
	case NameGroup:
		group, ok := b.doc.Groups[n.Text]
		if !ok {
			return nil, Error{n.Place.Line, n.Place.Column, fmt.Sprintf("group %s is not defined", quote(n.Text))}
		}
		return b.known(group.Members), nil
	}
	return b.known([]Name{n}), nil
}

func (b *builder) known(names []Name) []int32 {
	known := make([]int32, 0, len(names))
	for _, n := range names {
		if j, ok := b.c.byName[n.Text]; ok {
			known = append(known, j)
		}
	}
	return known
}

// touching gives the peers that own something in p, or something that p is part of. It may name one twice.
func (b *builder) touching(p netip.Prefix) []int32 {
	var peers []int32
	for bits := p.Bits() - 1; bits >= 0; bits-- {
		wider, _ := p.Addr().Prefix(bits)
		peers = append(peers, b.owning[wider]...)
	}
	first := sort.Search(len(b.owners), func(i int) bool { return comparePrefixes(b.owners[i].prefix, p) >= 0 })
	for _, o := range b.owners[first:] {
		if !p.Contains(o.prefix.Addr()) {
			break
		}
		peers = append(peers, o.peer)
	}
	return peers
}

func (b *builder) addEverything() {
	for i := range b.c.peers {
		b.c.peers[i].src.any.addAll(b.everythingSrc)
		b.c.peers[i].dst.any.addAll(b.everythingDst)
	}
}
