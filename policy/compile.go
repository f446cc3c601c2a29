package policy

// From a document to decisions:
//
//  1. newPeers checks the peers and tells them by name.
//  2. addGrant asks a resolver (resolve.go) which peers the names of a grant mean, and notes the grant with each of them.
//  3. scheduleUntils divides time into epochs.
//  4. Pair (pair.go) makes selectors of the grants that two peers share in an epoch, and remembers them (cache.go).
//  5. Decide (decide.go) says which of those grants permits a flow, or why none does.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Peer is what a decision needs to know of a peer.
type Peer struct {
	Name      string
	Addresses []netip.Addr   // in the overlays
	Subnets   []netip.Prefix // behind it; no two peers' overlap
	Tags      []string
	Suspended bool
}

// Compiled is a document resolved against the peers. It is immutable but for its cache, and safe for concurrent use.
type Compiled struct {
	session Session
	grants  []grant
	peers   []peer
	byName  map[string]int32
	untils  []time.Time // of enabled grants: ascending, distinct
	inForce []bitset    // one for each epoch: see epoch
	all     bitset
	pairs   cache
}

// grant is a Grant without the names of peers, which the peers have instead.
type grant struct {
	id       string
	src, dst side
	allow    []Allow
	until    time.Time
	disabled bool
}

// side holds of one end of a grant what does not depend on the peer.
type side struct {
	everything bool
	literals   []netip.Prefix // of NameNet and NamePrefix
}

// peer is a Peer and the grants that name it.
type peer struct {
	name      string
	owned     []netip.Prefix // overlay addresses first, then subnets
	overlay   []netip.Prefix // the first of owned
	suspended bool
	src, dst  named
}

// named says which grants name a peer on one side.
type named struct {
	any     bitset // in whatever way
	overlay bitset // by its name, a tag or a group
}

// Compile resolves a document, nil for none, against the peers. It fails on peers that are not well-formed and on a
// group or net that is not defined, which Parse never lets through.
func Compile(doc *Document, peers []Peer) (*Compiled, error) {
	if doc == nil {
		doc = &Document{Session: defaultSession}
	}
	n := len(doc.Grants)
	c := &Compiled{session: doc.Session, grants: make([]grant, n), all: newBitset(n)}
	var err error
	if c.peers, c.byName, err = newPeers(peers, n); err != nil {
		return nil, err
	}
	r := newResolver(doc, peers, c.peers, c.byName)
	for i := range doc.Grants {
		c.all.add(i)
		if err := c.addGrant(r, i, &doc.Grants[i]); err != nil {
			return nil, err
		}
	}
	c.addEverything()
	c.scheduleUntils()
	c.pairs.size(len(peers))
	return c, nil
}

// newPeers checks the peers, which no grant names yet.
func newPeers(list []Peer, grants int) (peers []peer, byName map[string]int32, err error) {
	peers, byName = make([]peer, len(list)), make(map[string]int32, len(list))
	for i, p := range list {
		if _, twice := byName[p.Name]; twice {
			return nil, nil, fmt.Errorf("policy: there are two peers named %s", quote(p.Name))
		}
		if peers[i], err = newPeer(p, grants); err != nil {
			return nil, nil, fmt.Errorf("policy: peer %s: %w", quote(p.Name), err)
		}
		byName[p.Name] = int32(i)
	}
	return peers, byName, nil
}

func newPeer(p Peer, grants int) (peer, error) {
	q := peer{name: p.Name, suspended: p.Suspended, src: newNamed(grants), dst: newNamed(grants)}
	if !validName(p.Name) {
		return q, fmt.Errorf("not a name: %s", nameRule)
	}
	for _, a := range p.Addresses {
		a = a.Unmap().WithZone("")
		if !a.IsValid() {
			return q, fmt.Errorf("an address is not set")
		}
		q.owned = append(q.owned, netip.PrefixFrom(a, a.BitLen()))
	}
	n := len(q.owned)
	for _, s := range p.Subnets {
		if !s.IsValid() || s.Addr().Is4In6() {
			return q, fmt.Errorf("subnet %s is not a prefix", s)
		}
		q.owned = append(q.owned, s.Masked())
	}
	q.overlay = q.owned[:n:n]
	return q, nil
}

func newNamed(grants int) named { return named{newBitset(grants), newBitset(grants)} }

func (c *Compiled) addGrant(r *resolver, i int, g *Grant) error {
	to := &c.grants[i]
	*to = grant{id: g.ID, allow: g.Allow, until: g.Until, disabled: g.Disabled}
	if err := c.addSide(r, i, g.Src, &to.src, func(p *peer) *named { return &p.src }); err != nil {
		return err
	}
	return c.addSide(r, i, g.Dst, &to.dst, func(p *peer) *named { return &p.dst })
}

// addSide resolves the names on one side of grant i, and notes with each peer, where of tells, that they name it.
func (c *Compiled) addSide(r *resolver, i int, names []Name, s *side, of func(*peer) *named) error {
	for _, n := range names {
		switch n.Kind {
		case NameEverything:
			s.everything = true
		case NameNet, NamePrefix:
			p, err := r.literal(n)
			if err != nil {
				return err
			}
			s.literals = append(s.literals, p)
			for _, j := range r.touching(p) {
				of(&c.peers[j]).any.add(i)
			}
		default:
			meant, err := r.meant(n)
			if err != nil {
				return err
			}
			for _, j := range meant {
				by := of(&c.peers[j])
				by.any.add(i)
				by.overlay.add(i)
			}
		}
	}
	return nil
}

// addEverything notes the grants with "*" on a side with every peer.
func (c *Compiled) addEverything() {
	src, dst := newBitset(len(c.grants)), newBitset(len(c.grants))
	for i, g := range c.grants {
		if g.src.everything {
			src.add(i)
		}
		if g.dst.everything {
			dst.add(i)
		}
	}
	for i := range c.peers {
		c.peers[i].src.any.addAll(src)
		c.peers[i].dst.any.addAll(dst)
	}
}

// Session gives the lifetimes of sessions.
func (c *Compiled) Session() Session { return c.session }

// scheduleUntils divides time into epochs, within which the set of grants in force does not change.
func (c *Compiled) scheduleUntils() {
	for _, g := range c.grants {
		if !g.disabled && !g.until.IsZero() {
			c.untils = append(c.untils, g.until)
		}
	}
	slices.SortFunc(c.untils, time.Time.Compare)
	c.untils = slices.CompactFunc(c.untils, time.Time.Equal)
	c.inForce = make([]bitset, len(c.untils)+1)
	for epoch := range c.inForce {
		set := newBitset(len(c.grants))
		for i, g := range c.grants {
			if !g.disabled && (g.until.IsZero() || epoch < len(c.untils) && !g.until.Before(c.untils[epoch])) {
				set.add(i)
			}
		}
		c.inForce[epoch] = set
	}
}

// epoch counts the untils that have passed at now. A grant is out of force at its until.
func (c *Compiled) epoch(now time.Time) int32 {
	n, at := slices.BinarySearchFunc(c.untils, now, time.Time.Compare)
	if at {
		n++
	}
	return int32(n)
}

// NextUntil gives the first instant after now at which decisions change by time alone, zero if there is none.
func (c *Compiled) NextUntil(now time.Time) time.Time {
	if n := int(c.epoch(now)); n < len(c.untils) {
		return c.untils[n]
	}
	return time.Time{}
}
