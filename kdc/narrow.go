package kdc

import (
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// narrow makes both sides of sessions carry no more than policy permits the pair now. Those that would carry nothing are
// revoked. Of one whose selectors are not known, since another run of the KDC granted it, it is known from then on that it
// has none that policy does not permit; which they are the sides tell. KDC.gate is held.
func (k *KDC) narrow(s *snapshot, sessions []*session) {
	r := newRevocation()
	orders := map[*connection][]*control.Narrow{}
	var doomed []*session
	k.mu.Lock()
	for _, x := range sessions {
		if k.sessions[x.id] != x {
			continue
		}
		pair := s.compiled.Pair(x.sides[0].peer, x.sides[1].peer, k.now()).Selectors
		if !x.restrict(pair, s.asOf) {
			doomed = append(doomed, x)
			continue
		}
		m := &control.Narrow{Session: x.id, Selectors: pair, AsOf: s.asOf}
		for _, end := range x.sides {
			if c := k.owe(r, end, debt{session: x.id, narrow: m}); c != nil {
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

// restrict is what the sides do on a Narrow, false where nothing is left. k.mu is held.
func (s *session) restrict(pair packet.Selectors, asOf control.AsOf) bool {
	if s.selectors == nil {
		s.selectors, s.digest = pair, control.Digest{}
	} else {
		s.selectors = s.selectors.Intersect(pair)
		s.digest = control.DigestSelectors(s.selectors)
	}
	s.asOf = asOf
	return len(s.selectors) > 0
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
	case x == nil:
	case m.Selectors == (control.Digest{}):
		k.letGo(x, x.of(c.name))
	case !x.agrees(m.Selectors):
		doomed = append(doomed, x)
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Changed)
}
