package kdc

import (
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// judgement is what becomes of a live session under a snapshot.
type judgement uint8

const (
	goesOn  judgement = iota // as it is
	early                    // another KDC granted it under a newer state, and it is not ours to cut: judged by that state
	narrows                  // the pair is permitted something, but less than the session carries
	ends
)

// judge decides about a live session: what it carries must be covered by what the pair is permitted now, which it also
// gives. One that is known by its digest only must be exactly that. Where a side has lost a subnet, so have they: selectors
// lie in what their peers have, and what a session's sides may use besides they cannot. k.mu is held.
func (k *KDC) judge(s *snapshot, x *session) (judgement, packet.Selectors) {
	if s.asOf.Before(x.asOf) {
		return early, nil
	}
	pair := k.permitted(s, x)
	switch {
	case len(pair) == 0:
		return ends, nil
	case x.selectors == nil && control.DigestSelectors(pair) == x.digest, x.selectors != nil && pair.CoverAll(x.selectors):
		return goesOn, pair
	}
	return narrows, pair
}

// permitted are the selectors that policy gives a session's pair now.
func (k *KDC) permitted(s *snapshot, x *session) packet.Selectors {
	return s.compiled.Pair(x.sides[0].peer, x.sides[1].peer, k.now()).Selectors
}

// orders are what the sides of sessions are to be told: a snapshot asks for them, or a report.
type orders struct {
	revoke []*session
	narrow map[*session]narrowing
}

// narrowing is how far a session is to be narrowed, and of which side that is asked.
type narrowing struct {
	pair packet.Selectors // what its pair is permitted
	only *side            // nil: both
}

// add adds a session, of which both sides are to be told or, unless it is there already, only one.
func (o *orders) add(x *session, n narrowing) {
	if o.narrow == nil {
		o.narrow = map[*session]narrowing{}
	}
	if _, there := o.narrow[x]; !there || n.only == nil {
		o.narrow[x] = n
	}
}

// review judges a session and concludes. k.mu is held.
func (k *KDC) review(s *snapshot, x *session, o *orders) judgement {
	j, pair := k.judge(s, x)
	k.conclude(x, j, pair, o)
	return j
}

// conclude notes what follows of a judgement, and adds what has to be told. k.mu is held.
func (k *KDC) conclude(x *session, j judgement, pair packet.Selectors, o *orders) {
	switch j {
	case early:
		k.early = true
	case goesOn:
		if x.selectors == nil {
			x.selectors = pair
		}
	case narrows:
		o.add(x, narrowing{pair: pair})
	case ends:
		o.revoke = append(o.revoke, x)
	}
}

// carryOut gives the orders, and enters their receipts. KDC.gate is held.
func (k *KDC) carryOut(s *snapshot, o orders, r *receipts) {
	k.narrow(s, &o, r)
	k.revoke(o.revoke, control.Changed, r)
}
