package tunssm

// Narrowing: a change of policy that leaves a pair less than its session carries, but not nothing. The KDC sends each side
// what policy permits the pair now; the session goes on with what both that and its selectors permit. Flows that no longer
// fit are cut. What policy permits besides comes with a new session, which the next such packet acquires.

import (
	"slices"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// onNarrow takes a Narrow and gives the receipt, which says as of when the session was narrowed last. Of those that several
// KDCs send the newest counts, in whatever order they come; two of one state are not the same where a grant has ended by
// time between them. A session that has ended carries nothing, which the receipt says with an empty digest.
func (a *acquirer) onNarrow(conn *control.Conn, id uint64, m *control.Narrow) {
	a.raise(m.AsOf)
	ack := &control.NarrowAck{Session: m.Session, AsOf: m.AsOf}
	if s := a.sessionByID(m.Session); s != nil {
		if !m.AsOf.Before(s.scope.Load().asOf) {
			a.narrow(s, m)
		}
		ack.Digest, ack.AsOf = s.entry.Digest, s.entry.AsOf
	}
	a.reply(conn, id, ack)
}

// narrow narrows s. What it carried until now is remembered with the peer, besides what was cut before: a connection may
// be silent for long (cutFlow).
func (a *acquirer) narrow(s *session, m *control.Narrow) {
	was, lost := s.scope.Load().selectors, slices.Clone(s.scope.Load().lost)
	now := was.Intersect(m.Selectors)
	for _, p := range s.prefixes {
		if !packet.Covers(a.config.Overlays, p.Addr()) && touch(was, p) && !touch(now, p) {
			lost = append(lost, p)
		}
	}
	narrower := &scope{selectors: now, asOf: m.AsOf, whole: now.CoverAll(m.Selectors) && len(lost) == 0, lost: lost}
	told := s.entry.Digest
	s.entry.Digest, s.entry.AsOf = control.DigestSelectors(now), m.AsOf
	if s.entry.Digest == told {
		s.scope.Store(narrower)
		return // of several KDCs each tells it
	}
	cut := was
	if before := s.peer.cut.Load(); before != nil {
		cut = was.Union(*before)
	}
	s.peer.cut.Store(&cut) // first: a packet that the scope no longer permits is to be known as cut
	s.scope.Store(narrower)
	a.logSession("narrowed a session", "session", s.id, "peer", s.peer.name, "selectors", len(now), "before", len(was),
		"as_of", m.AsOf)
}
