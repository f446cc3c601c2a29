package tunssm

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// table is what the loops read: inner prefix to peer, SPI to session. It is immutable; the acquirer publishes another.
type table struct {
	peers    bart.Table[*peer]
	sessions map[packet.SPI]*session
	asOf     control.AsOf // the highest seen: a session decided before it may have narrower selectors than policy
}

// newTable takes in every live session. Of a peer's sessions the newest says which prefixes it has. A prefix that has
// moved from one peer to another belongs to the peer that was given it last: policy's state decides, then time.
func newTable(peers map[string]*peer, asOf control.AsOf) *table {
	t := &table{sessions: map[packet.SPI]*session{}, asOf: asOf}
	for _, p := range slices.SortedFunc(maps.Values(peers), comparePeers) {
		if len(p.sessions) == 0 {
			continue
		}
		for _, prefix := range p.prefixes {
			t.peers.Insert(prefix, p)
		}
		for _, s := range p.sessions {
			t.sessions[s.spi] = s
		}
	}
	return t
}

// comparePeers orders by when the peers were given their prefixes, the last given last.
func comparePeers(p, q *peer) int {
	switch {
	case p.asOf.Before(q.asOf):
		return -1
	case q.asOf.Before(p.asOf):
		return 1
	}
	return cmp.Or(p.given.Compare(q.given), cmp.Compare(p.name, q.name))
}

// owner is the peer that has dst; nil for none that is known.
func (t *table) owner(dst netip.Addr) *peer {
	p, _ := t.peers.Lookup(dst)
	return p
}

// way is what to do with an outbound packet.
type way uint8

const (
	waySend   way = iota // on the session
	wayHold              // until there is one, or a newer one
	wayRefuse            // policy permits no such flow
)

// outbound decides on a flow: the session that may carry it, or that it must wait for one, or that it is refused.
func (t *table) outbound(f packet.Flow) (*session, way) {
	p := t.owner(f.Dst)
	if p == nil {
		return nil, wayHold
	}
	s := p.sending.Load()
	if s == nil {
		return nil, wayHold
	}
	switch scope := s.scope.Load(); {
	case scope.selectors.Permits(f):
		return s, waySend
	case !scope.settled(t.asOf):
		return nil, wayHold // a new session might permit it
	}
	return nil, wayRefuse
}

// carriesError is the session for an ICMP error about a flow that it permits; nil for none, or where p is not an error.
func (t *table) carriesError(p packet.Packet, b []byte) *session {
	o := t.owner(p.Dst)
	if o == nil {
		return nil
	}
	if s := o.sending.Load(); s != nil && s.permitsError(p, b) {
		return s
	}
	return nil
}
