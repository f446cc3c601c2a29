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

// verdict is what becomes of an outbound packet.
type verdict uint8

const (
	verdictSend   verdict = iota // on the session
	verdictHold                  // until there is one, or a newer one
	verdictRefuse                // policy permits no such flow
)

// lookup decides on a packet, of which p is what Parse made of b: the session that may carry it, or that it must wait for
// one, or that it is refused.
func (t *table) lookup(p packet.Packet, b []byte) (*session, verdict) {
	owner := t.owner(p.Dst)
	if owner == nil {
		return nil, verdictHold
	}
	s := owner.sending.Load()
	switch {
	case s == nil:
		return nil, verdictHold
	case s.carries(p, b):
		return s, verdictSend
	case !s.scope.Load().final(t.asOf):
		return nil, verdictHold // a new session might permit it
	}
	return nil, verdictRefuse
}

// cutFlow says whether the flow, which is not permitted now, was until its session was narrowed.
func (t *table) cutFlow(f packet.Flow) bool {
	p := t.owner(f.Dst)
	if p == nil {
		return false
	}
	was := p.cut.Load()
	return was != nil && was.Permits(f)
}
