package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
)

// resolver knows which peers a name means. It never visits all peers for one name.
type resolver struct {
	doc    *Document
	byName map[string]int32
	byTag  map[string][]int32
	owners []owner                  // by prefix, each before those that lie in it
	owning map[netip.Prefix][]int32 // the same, by prefix
}

// owner is one thing that a peer owns.
type owner struct {
	prefix netip.Prefix
	peer   int32
}

// newResolver takes the peers as they are listed and as newPeers made them.
func newResolver(doc *Document, list []Peer, peers []peer, byName map[string]int32) *resolver {
	r := &resolver{doc: doc, byName: byName, byTag: map[string][]int32{}, owning: map[netip.Prefix][]int32{}}
	for i, p := range list {
		for _, t := range p.Tags {
			r.byTag[t] = append(r.byTag[t], int32(i))
		}
		for _, q := range peers[i].owned {
			r.owners = append(r.owners, owner{q, int32(i)})
			r.owning[q] = append(r.owning[q], int32(i))
		}
	}
	slices.SortFunc(r.owners, func(x, y owner) int { return x.prefix.Compare(y.prefix) })
	return r
}

// literal gives the prefix that a name of a net, or a prefix itself, means.
func (r *resolver) literal(n Name) (netip.Prefix, error) {
	if n.Kind == NamePrefix {
		return n.Prefix, nil
	}
	net, ok := r.doc.Nets[n.Text]
	if !ok {
		return netip.Prefix{}, Error{n.Place.Line, n.Place.Column, fmt.Sprintf("net %s is not defined", quote(n.Text))}
	}
	return net.Prefix, nil
}

// meant gives the peers that a bare name, a tag or a group means.
func (r *resolver) meant(n Name) ([]int32, error) {
	switch n.Kind {
	case NameTag:
		return r.byTag[n.Text], nil
	case NameGroup:
		group, ok := r.doc.Groups[n.Text]
		if !ok {
			return nil, Error{n.Place.Line, n.Place.Column, fmt.Sprintf("group %s is not defined", quote(n.Text))}
		}
		return r.known(group.Members), nil
	}
	return r.known([]Name{n}), nil
}

func (r *resolver) known(names []Name) []int32 {
	known := make([]int32, 0, len(names))
	for _, n := range names {
		if j, ok := r.byName[n.Text]; ok {
			known = append(known, j)
		}
	}
	return known
}

// touching gives the peers that own something in p, or something that p is part of. It may name one twice.
func (r *resolver) touching(p netip.Prefix) []int32 {
	var peers []int32
	for bits := p.Bits() - 1; bits >= 0; bits-- {
		wider, _ := p.Addr().Prefix(bits)
		peers = append(peers, r.owning[wider]...)
	}
	first := sort.Search(len(r.owners), func(i int) bool { return r.owners[i].prefix.Compare(p) >= 0 })
	for _, o := range r.owners[first:] {
		if !p.Contains(o.prefix.Addr()) {
			break
		}
		peers = append(peers, o.peer)
	}
	return peers
}
