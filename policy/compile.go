package policy

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

// grant is a Grant without the names, which are resolved into the peers' reaches.
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
	src, dst  reach
}

// reach says which grants name a peer on one side.
type reach struct {
	any     bitset // in whatever way
	overlay bitset // by its name, a tag or a group
}

// Compile resolves a document, nil for none, against the peers. It fails on peers that are not well-formed and on a
// group or net that is not defined, which Parse never lets through.
func Compile(doc *Document, peers []Peer) (*Compiled, error) {
	if doc == nil {
		doc = &Document{Session: DefaultSession}
	}
	c := &Compiled{session: doc.Session, grants: make([]grant, len(doc.Grants)), all: newBitset(len(doc.Grants))}
	if err := c.addPeers(peers); err != nil {
		return nil, err
	}
	b := newBuilder(c, doc, peers)
	for i := range doc.Grants {
		c.all.add(i)
		if err := b.addGrant(i, &doc.Grants[i]); err != nil {
			return nil, err
		}
	}
	b.addEverything()
	c.scheduleUntils()
	c.pairs.size(len(peers))
	return c, nil
}

// Session gives the lifetimes of sessions.
func (c *Compiled) Session() Session { return c.session }

func (c *Compiled) addPeers(peers []Peer) error {
	c.peers = make([]peer, len(peers))
	c.byName = make(map[string]int32, len(peers))
	for i, p := range peers {
		if _, twice := c.byName[p.Name]; twice {
			return fmt.Errorf("policy: there are two peers named %s", quote(p.Name))
		}
		q, err := newPeer(p, len(c.grants))
		if err != nil {
			return fmt.Errorf("policy: peer %s: %w", quote(p.Name), err)
		}
		c.peers[i], c.byName[p.Name] = q, int32(i)
	}
	return nil
}

func newPeer(p Peer, grants int) (peer, error) {
	q := peer{name: p.Name, suspended: p.Suspended, src: newReach(grants), dst: newReach(grants)}
	if !ValidName(p.Name) {
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

func newReach(grants int) reach { return reach{newBitset(grants), newBitset(grants)} }

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
func (c *Compiled) epoch(now time.Time) int {
	if len(c.untils) == 0 {
		return 0
	}
	n, at := slices.BinarySearchFunc(c.untils, now, time.Time.Compare)
	if at {
		n++
	}
	return n
}

// NextUntil gives the first instant after now at which decisions change by time alone, zero if there is none.
func (c *Compiled) NextUntil(now time.Time) time.Time {
	if n := c.epoch(now); n < len(c.untils) {
		return c.untils[n]
	}
	return time.Time{}
}
