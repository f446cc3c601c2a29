package kdc

import (
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// narrow makes the sides of sessions carry no more than policy permits the pair now; one that would carry nothing is to be
// revoked. Of one whose selectors are not known, since another run of the KDC granted it, it is known from then on that it
// has none that policy does not permit; which they are the sides tell. A side that has not told that it holds the session
// is told once it has: the other cannot make it hear of what it does not have. KDC.gate is held.
func (k *KDC) narrow(s *snapshot, o *orders, r *receipts) {
	orders := map[*connection][]*control.Narrow{}
	k.mu.Lock()
	for x, n := range o.narrow {
		if k.sessions[x.id] != x {
			continue
		}
		if n.only == nil {
			if x.restrict(n.pair, s.asOf); len(x.selectors) == 0 {
				o.revoke = append(o.revoke, x)
				continue
			}
		}
		m := &control.Narrow{Session: x.id, Selectors: n.pair, AsOf: s.asOf}
		for i := range x.sides {
			end := &x.sides[i]
			if end.hold != holds || n.only != nil && n.only != end {
				continue
			}
			if c := k.owe(r, *end, debt{session: x.id, narrow: m}); c != nil {
				orders[c] = append(orders[c], m)
			}
		}
		k.tellWatchers(SessionNarrowed, x, 0)
		k.audit.add(event{
			Event: "narrow", Session: x.id, Requester: x.sides[0].peer, Responder: x.sides[1].peer, AsOf: s.asOf,
		})
	}
	k.mu.Unlock()
	for c, list := range orders {
		for _, m := range list {
			if c.conn.Send(0, m) != nil {
				break
			}
		}
	}
}

// restrict is what the sides do on a Narrow. Where it was not known exactly what the session carried, neither is the digest
// of what is left, which the first side to ack then tells. k.mu is held.
func (s *session) restrict(pair packet.Selectors, asOf control.AsOf) {
	exact := s.selectors != nil && s.digest == control.DigestSelectors(s.selectors)
	if s.selectors != nil {
		pair = s.selectors.Intersect(pair)
	}
	s.selectors, s.digest, s.asOf = pair, control.Digest{}, asOf
	if exact {
		s.digest = control.DigestSelectors(pair)
	}
}

// onNarrowAck takes a NarrowAck. Where the side does not hold the session, or has come to other selectors than the other
// one, it says so by the digest. KDC.gate is held.
func (k *KDC) onNarrowAck(c *connection, m *control.NarrowAck) {
	if doomed := k.narrowed(c, m); doomed != nil {
		k.revoke([]*session{doomed}, control.Changed, newReceipts())
	}
}

// narrowed takes a side's word of what it carries now, and gives the session where its sides have come apart.
func (k *KDC) narrowed(c *connection, m *control.NarrowAck) (doomed *session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.live[c.name]
	if p == nil {
		return nil
	}
	d := p.owed[m.Session]
	if d == nil || d.narrow == nil || d.boot != c.boot || m.AsOf.Before(d.narrow.AsOf) {
		return nil
	}
	k.acknowledge(p, d)
	switch x := k.sessions[m.Session]; {
	case x == nil || x.of(c.name) == nil: // no more, or another that has come to have the id
	case m.Digest == (control.Digest{}):
		k.letGo(x, x.of(c.name), closes)
	case d.narrow.AsOf.Before(m.AsOf): // another KDC has narrowed it since, and holds the sides against each other
	case !x.agrees(m.Digest):
		return x
	}
	return nil
}
