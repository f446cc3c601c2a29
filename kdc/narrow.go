package kdc

import (
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// narrowing lists sessions to be narrowed, each once, and the side that is to be told; nil is both.
type narrowing map[*session]*side

// one adds a session of which one side is to be told, unless it is there already.
func (n narrowing) one(x *session, end *side) {
	if _, there := n[x]; !there {
		n[x] = end
	}
}

// narrow makes the sides of sessions carry no more than policy permits the pair now. Those that would carry nothing are
// revoked. Of one whose selectors are not known, since another run of the KDC granted it, it is known from then on that it
// has none that policy does not permit; which they are the sides tell. A side that has not told that it holds the session
// is told once it has: the other cannot make it hear of what it does not have. KDC.gate is held.
func (k *KDC) narrow(s *snapshot, sessions narrowing) {
	r := newRevocation()
	orders := map[*connection][]*control.Narrow{}
	var doomed []*session
	k.mu.Lock()
	for x, only := range sessions {
		if k.sessions[x.id] != x {
			continue
		}
		pair := k.permitted(s, x)
		if only == nil && !x.restrict(pair, s.asOf) {
			doomed = append(doomed, x)
			continue
		}
		m := &control.Narrow{Session: x.id, Selectors: pair, AsOf: s.asOf}
		for i := range x.sides {
			end := &x.sides[i]
			if !end.told || only != nil && only != end {
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
	k.announce(r)
	k.mu.Unlock()
	for c, list := range orders {
		for _, m := range list {
			if c.conn.Send(0, m) != nil {
				break
			}
		}
	}
	k.revoke(doomed, control.Changed)
}

// restrict is what the sides do on a Narrow, false where nothing is left. Where it was not known exactly what the session
// carried, neither is the digest of what is left, which the first side to ack then tells. k.mu is held.
func (s *session) restrict(pair packet.Selectors, asOf control.AsOf) bool {
	left, exact := pair, s.selectors != nil && s.digest == control.DigestSelectors(s.selectors)
	if s.selectors != nil {
		left = s.selectors.Intersect(pair)
	}
	s.selectors, s.digest, s.asOf = left, control.Digest{}, asOf
	if exact {
		s.digest = control.DigestSelectors(left)
	}
	return len(left) > 0
}

// narrowed takes a NarrowAck. Where the side does not hold the session, or has come to other selectors than the other one,
// it says so by the digest. KDC.gate is held.
func (k *KDC) narrowed(c *connection, m *control.NarrowAck) {
	var doomed []*session
	k.mu.Lock()
	p := k.peers[c.name]
	if p == nil {
		k.mu.Unlock()
		return
	}
	d := p.owed[m.Session]
	if d == nil || d.narrow == nil || d.boot != c.boot || m.AsOf.Before(d.narrow.AsOf) {
		k.mu.Unlock()
		return
	}
	k.acknowledge(p, d)
	switch x := k.sessions[m.Session]; {
	case x == nil || x.of(c.name) == nil: // no more, or another that has come to have the id
	case m.Selectors == (control.Digest{}):
		k.letGo(x, x.of(c.name))
	case d.narrow.AsOf.Before(m.AsOf): // another KDC has narrowed it since, and holds the sides against each other
	case !x.agrees(m.Selectors):
		doomed = append(doomed, x)
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Changed)
}
