package kdc

import (
	"ssmnet/packet"
	"ssmnet/packet/control"
)

// judgement is what becomes of a live session under a snapshot.
type judgement uint8

const (
	goesOn  judgement = iota // as it is
	narrows                  // the pair is permitted something, but less than the session carries
	ends
)

// judge decides about a live session: what it carries must be covered by what the pair is permitted now. One that is known
// by its digest only must be exactly that, and is then known. Where a side has lost a subnet, so have they: selectors lie
// in what their peers have, and what a session's sides may use besides they cannot. One that another KDC granted under a newer state is not ours
// to cut: it is judged when the snapshot has caught up. k.mu is held.
func (k *KDC) judge(s *snapshot, x *session) judgement {
	if s.asOf.Before(x.asOf) {
		k.early = true
		return goesOn
	}
	pair := k.permitted(s, x)
	switch {
	case len(pair) == 0:
		return ends
	case x.selectors == nil && control.DigestSelectors(pair) == x.digest:
		x.selectors = pair
		return goesOn
	case x.selectors != nil && pair.CoverAll(x.selectors):
		return goesOn
	}
	return narrows
}

// permitted are the selectors that policy gives a session's pair now.
func (k *KDC) permitted(s *snapshot, x *session) packet.Selectors {
	return s.compiled.Pair(x.sides[0].peer, x.sides[1].peer, k.now()).Selectors
}

// reviewSessions judges the live sessions anew, if policy has changed or some wait for it. KDC.gate is held for writing.
func (k *KDC) reviewSessions(s *snapshot, changed bool) {
	var doomed []*session
	wide := narrowing{}
	k.mu.Lock()
	if !changed && !k.early {
		k.mu.Unlock()
		return
	}
	k.early = false
	for _, x := range k.sessions {
		switch k.judge(s, x) {
		case ends:
			doomed = append(doomed, x)
		case narrows:
			wide[x] = nil
		}
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Changed)
	k.narrow(s, wide)
}
