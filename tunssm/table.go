package tunssm

import (
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

// newTable takes in every live session. Of a peer's sessions the newest says which prefixes it has.
func newTable(peers map[string]*peer, asOf control.AsOf) *table {
	t := &table{sessions: map[packet.SPI]*session{}, asOf: asOf}
	for _, p := range peers {
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

// way is what to do with an outbound packet.
type way uint8

const (
	waySend   way = iota // on the session
	wayHold              // until there is one, or a newer one
	wayRefuse            // policy permits no such flow
)

// outbound decides on a flow: the session that may carry it, or that it must wait for one, or that it is refused.
func (t *table) outbound(f packet.Flow) (*session, way) {
	p, ok := t.peers.Lookup(f.Dst)
	if !ok {
		return nil, wayHold
	}
	s := p.sending.Load()
	switch {
	case s == nil:
		return nil, wayHold
	case s.terms.Selectors.Permits(f):
		return s, waySend
	case s.terms.AsOf.Before(t.asOf):
		return nil, wayHold // policy has moved on since; a new session would have its selectors
	}
	return nil, wayRefuse
}
