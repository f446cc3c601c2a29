package kdc

import (
	"cmp"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const (
	maxSessions       = 1 << 20 // in all
	maxSessionsOfPeer = 16384   // that one peer asked for or reported first
)

// registry is what the KDC knows of live peers and sessions. A session comes into it by a grant of this KDC or by the report
// of one of its sides, and leaves when neither side holds it any more: a side that says it closed a session is believed for
// itself alone, or it could hide from the other side's revocation. All of it is under KDC.mu.
type registry struct {
	live     map[string]*livePeer // by name
	sessions map[control.SessionID]*session
	revoked  revokedIDs
	early    bool // there may be sessions of a newer state than the snapshot's
}

func newRegistry() registry {
	return registry{
		live: map[string]*livePeer{}, sessions: map[control.SessionID]*session{},
		revoked: revokedIDs{reasons: map[control.SessionID]control.Reason{}},
	}
}

// session is one live session as its ends have told, and as it was granted.
type session struct {
	id        control.SessionID
	sides     [2]side          // requester, responder
	by        string           // the peer whose budget it counts against
	since     time.Time        // as people read it
	began     time.Time        // the same on the monotonic clock
	heard     time.Time        // likewise, of the report that it was first known by; zero where this run granted it
	asOf      control.AsOf     // of the decision that gave it its selectors, or of the one that narrowed them last
	digest    control.Digest   // of them; zero where neither side has yet told
	selectors packet.Selectors // none besides; nil where another granted it, until policy had those of digest or narrowed it
	suite     packet.Suite     // likewise zero
	grant     string           // likewise empty
}

// side is one end of a session: which run of which peer, and whether it may still hold the session.
type side struct {
	peer string
	boot control.Boot
	hold hold
}

// hold is what the KDC knows of a side's hold on a session: of the grant, of its own reports and acks, and at first of the
// other side's. What it then says changes that so:
//
//	           tells    closes    misses
//	supposed   holds    lacks     lacks
//	holds      holds    closed    lacks
//	closed     holds    closed    lacks
//	lacks      holds    lacks     lacks
//
// It tells that it holds the session in a report; it closes it by a report, or by the ack of a Narrow that finds none; and it
// misses it where the full report after Hello does not name it. A session that neither side supposedly holds or holds is no
// more; one that a side alone holds, where the other lacks it, is revoked (match).
type hold uint8

const (
	supposed hold = iota // the other side has told of the session, and this one has yet to
	holds                // granted, or told
	closed               // it had the session, and has no more
	lacks                // it has told of all that it has, and not of this one
)

// word is what a side says of a session.
type word uint8

const (
	tells word = iota
	closes
	misses
)

var holdAfter = [...][3]hold{
	supposed: {tells: holds, closes: lacks, misses: lacks},
	holds:    {tells: holds, closes: closed, misses: lacks},
	closed:   {tells: holds, closes: closed, misses: lacks},
	lacks:    {tells: holds, closes: lacks, misses: lacks},
}

// has says that a side may have the session.
func (h hold) has() bool { return h == supposed || h == holds }

// told says that a side has had it, by its own word or the grant.
func (h hold) told() bool { return h == holds || h == closed }

// agrees says whether a side that acks with these selectors has those that the session has. The first to tell is believed:
// the other must tell the same. k.mu is held.
func (s *session) agrees(told control.Digest) bool {
	if s.digest == (control.Digest{}) {
		s.digest = told
	}
	return s.digest == told
}

// of gives the side of a peer, or nil.
func (s *session) of(name string) *side {
	for i := range s.sides {
		if s.sides[i].peer == name {
			return &s.sides[i]
		}
	}
	return nil
}

func (s *session) other(name string) *side {
	if s.sides[0].peer == name {
		return &s.sides[1]
	}
	return &s.sides[0]
}

// addSession takes a session in, false where there are too many. Its id is new, or was reported by a responder that had
// no more than the offer: what it then said goes. k.mu is held.
func (k *KDC) addSession(s *session) bool {
	if old := k.sessions[s.id]; old != nil {
		k.dropSession(old)
		k.tellWatchers(SessionClosed, old, 0)
	}
	if len(k.sessions) >= maxSessions || k.livePeer(s.by).budget >= maxSessionsOfPeer {
		return false
	}
	k.sessions[s.id] = s
	for _, end := range s.sides {
		k.livePeer(end.peer).sessions[s.id] = s
	}
	k.livePeer(s.by).budget++
	k.tellWatchers(SessionOpened, s, 0)
	return true
}

// dropSession takes it out again. k.mu is held.
func (k *KDC) dropSession(s *session) {
	if k.sessions[s.id] != s {
		return
	}
	delete(k.sessions, s.id)
	if p := k.live[s.by]; p != nil && p.sessions[s.id] == s {
		p.budget--
	}
	for _, end := range s.sides {
		if p := k.live[end.peer]; p != nil {
			delete(p.sessions, s.id)
		}
	}
}

// letGo takes a side's word that it does not hold the session any more. k.mu is held.
func (k *KDC) letGo(s *session, end *side, said word) {
	end.hold = holdAfter[end.hold][said]
	if !s.sides[0].hold.has() && !s.sides[1].hold.has() {
		k.dropSession(s)
		k.tellWatchers(SessionClosed, s, 0)
	}
}

// SessionInfo is a live session.
type SessionInfo struct {
	ID        control.SessionID `json:"id"`
	Requester string            `json:"requester"`
	Responder string            `json:"responder"`
	Since     time.Time         `json:"since"`
	AsOf      control.AsOf      `json:"as_of"`
	Suite     string            `json:"suite,omitempty"`     // unknown where another run of the KDC issued it
	Selectors []string          `json:"selectors,omitempty"` // likewise, until it is known that it has no others
	Grant     string            `json:"grant,omitempty"`     // id of the grant that permitted the request; likewise
}

// SessionFilter chooses sessions: those that match every field that is set. With none set and All false it chooses
// nothing to revoke, and everything to list.
type SessionFilter struct {
	ID    control.SessionID `json:"id,omitzero"`
	Peer  string            `json:"peer,omitempty"`
	PairA string            `json:"pair_a,omitempty"` // with PairB: sessions between the two, whoever asked
	PairB string            `json:"pair_b,omitempty"`
	All   bool              `json:"all,omitempty"`
}

// chosen says whether the filter, which has something set, chooses a session.
func (f SessionFilter) chosen(s *session) bool {
	return (f.ID == (control.SessionID{}) || f.ID == s.id) &&
		(f.Peer == "" || s.of(f.Peer) != nil) &&
		(f.PairA == "" || s.of(f.PairA) != nil) &&
		(f.PairB == "" || s.of(f.PairB) != nil && f.PairA != f.PairB)
}

// Sessions lists live sessions, the newest last.
func (k *KDC) Sessions(f SessionFilter) []SessionInfo {
	k.mu.Lock()
	found := k.find(f)
	k.mu.Unlock()
	return inOrder(found)
}

// listed is a session in a list, which is in the order of the monotonic clock.
type listed struct {
	began time.Time
	info  SessionInfo
}

// find lists the live sessions that a filter chooses, in no order. k.mu is held.
func (k *KDC) find(f SessionFilter) (list []listed) {
	for _, s := range k.sessions {
		if f.chosen(s) {
			list = append(list, listed{s.began, s.info()})
		}
	}
	return list
}

// inOrder puts the newest last.
func inOrder(found []listed) []SessionInfo {
	slices.SortFunc(found, func(a, b listed) int {
		return cmp.Or(a.began.Compare(b.began), a.info.ID.Compare(b.info.ID))
	})
	list := make([]SessionInfo, len(found))
	for i, l := range found {
		list[i] = l.info
	}
	return list
}

func (s *session) info() SessionInfo {
	i := SessionInfo{
		ID: s.id, Requester: s.sides[0].peer, Responder: s.sides[1].peer, Since: s.since.UTC(), AsOf: s.asOf, Grant: s.grant,
	}
	if s.suite != 0 {
		i.Suite = s.suite.String()
	}
	for _, x := range s.selectors {
		i.Selectors = append(i.Selectors, x.String())
	}
	return i
}
