package kdc

import (
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// The registry of live sessions. A session comes into it by a grant of this KDC or by the report of one of its sides,
// and leaves when neither side holds it any more: a side that says it closed a session is believed for itself alone,
// or it could hide from the other side's revocation. Everything here is under KDC.mu.

const (
	maxSessions       = 1 << 20 // in all
	maxSessionsOfPeer = 16384   // that one peer asked for or reported first
)

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
	held bool
	told bool // the grant, or a report of its own, says that it does
}

// live is the session that an exchange makes.
func (x *exchange) live(now time.Time) *session {
	return &session{
		id:    x.session,
		sides: [2]side{{x.a.Name, x.a.Boot, true, true}, {x.b.Name, x.b.Boot, true, true}},
		by:    x.a.Name, since: now, began: time.Now(), asOf: x.verdict.terms.AsOf,
		digest: control.DigestSelectors(x.verdict.terms.Selectors), selectors: x.verdict.terms.Selectors,
		suite: x.suite, grant: x.verdict.grant,
	}
}

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
	if len(k.sessions) >= maxSessions || k.live(s.by).budget >= maxSessionsOfPeer {
		return false
	}
	k.sessions[s.id] = s
	for _, end := range s.sides {
		k.live(end.peer).sessions[s.id] = s
	}
	k.live(s.by).budget++
	k.tellWatchers(SessionOpened, s, 0)
	return true
}

// dropSession takes it out again. k.mu is held.
func (k *KDC) dropSession(s *session) {
	if k.sessions[s.id] != s {
		return
	}
	delete(k.sessions, s.id)
	if p := k.peers[s.by]; p != nil && p.sessions[s.id] == s {
		p.budget--
	}
	for _, end := range s.sides {
		if p := k.peers[end.peer]; p != nil {
			delete(p.sessions, s.id)
		}
	}
}

// letGo notes that a side does not hold the session any more. k.mu is held.
func (k *KDC) letGo(s *session, end *side) {
	end.held = false
	if !s.sides[0].held && !s.sides[1].held {
		k.dropSession(s)
		k.tellWatchers(SessionClosed, s, 0)
	}
}

// reported takes a SessionReport: sessions that were opened and closed, and after Hello all that there are.
func (k *KDC) reported(c *connection, m *control.SessionReport) {
	s := k.snapshot.Load()
	var refuse []control.SessionID
	var doomed []*session
	wide := narrowing{}
	reason := control.Changed
	k.mu.Lock()
	p := k.live(c.name)
	for _, e := range m.Opened {
		if c.roll != nil {
			c.roll[e.ID] = struct{}{}
		}
		why := k.opened(s, c, e, wide)
		switch known := k.sessions[e.ID]; {
		case why == 0:
		case known != nil && k.judge(s, known) == ends:
			doomed = append(doomed, known)
		default:
			refuse, reason = append(refuse, e.ID), why
		}
	}
	for _, id := range m.Closed {
		if x := p.sessions[id]; x != nil && x.of(c.name).boot == c.boot {
			k.letGo(x, x.of(c.name))
		}
		if d := p.owed[id]; d != nil && d.boot == c.boot {
			k.acknowledge(p, d)
		}
	}
	if len(c.roll) > maxSessionsOfPeer {
		c.roll, c.endless = nil, true // more than are taken in: nothing follows from what is missing in it
	}
	if m.Last {
		k.closeRoll(c)
	}
	k.mu.Unlock()
	if len(refuse) > 0 {
		e := event{Event: "report.refused", Peer: c.name, Count: uint64(len(refuse)), Reason: reason.String()}
		k.auditDenial(e, denialKey{requester: c.name, reason: e.Event + ": " + e.Reason})
		c.conn.Send(0, &control.Revoke{Sessions: refuse, Reason: reason, AsOf: s.asOf})
	}
	k.revoke(doomed, control.Changed)
	k.narrow(s, wide)
}

// opened takes one reported session in, or says why it must go; it may have to be narrowed. k.mu is held.
func (k *KDC) opened(s *snapshot, c *connection, e control.SessionEntry, wide narrowing) control.Reason {
	d := k.live(c.name).owed[e.ID]
	if d != nil && d.narrow == nil {
		return d.reason
	}
	if why, ok := k.revoked.has(e.ID); ok {
		return why
	}
	if known := k.sessions[e.ID]; known != nil {
		end := known.of(c.name)
		if end == nil || end.boot != c.boot {
			return control.Changed
		}
		end.held, end.told = true, true
		if d != nil {
			return 0 // it may not have heard of the Narrow when it reported
		}
		return k.retold(s, known, end, e, wide)
	}
	age := time.Duration(min(e.AgeMillis, 1<<40)) * time.Millisecond
	x := &session{
		id: e.ID, by: c.name,
		sides: [2]side{{e.Requester, e.BootA, true, false}, {e.Responder, e.BootB, true, false}},
		since: k.now().Add(-age), began: time.Now().Add(-age), heard: time.Now(), asOf: e.AsOf, digest: e.Selectors,
	}
	if end := x.of(c.name); end == nil || end.boot != c.boot || e.Requester == e.Responder {
		return control.Malformed
	}
	far := x.other(c.name)
	q := k.peers[far.peer]
	if q != nil && (slices.Contains(q.displaced, far.boot) || q.conn != nil && q.boot != far.boot) {
		return control.Restarted
	}
	judged := k.judge(s, x)
	if judged == ends {
		return control.Changed
	}
	if !k.addSession(x) {
		return control.Busy
	}
	x.of(c.name).told = true
	k.matchLater(c)
	if judged == narrows {
		wide[x] = nil
	}
	return 0
}

// retold takes what a side tells of a session that is known. Where that is not what is known of its selectors one of them
// is out of date: the ack of a Narrow says whether they then agree. k.mu is held.
func (k *KDC) retold(s *snapshot, x *session, end *side, e control.SessionEntry, wide narrowing) control.Reason {
	newer := x.asOf.Before(e.AsOf)
	if e.AsOf.Before(x.asOf) { // it is yet to be narrowed, or the other side claimed that it came of a newer state
		x.asOf = e.AsOf
	}
	switch k.judge(s, x) {
	case ends:
		return control.Changed
	case narrows:
		wide[x] = nil
		return 0
	}
	switch {
	case e.Selectors == x.digest:
	case s.asOf.Before(e.AsOf): // another KDC has narrowed it under a state that we have yet to see, and judge it by
	case newer: // likewise, under one that we have seen
		x.digest, wide[x] = control.Digest{}, nil
	default:
		wide.one(x, end)
	}
	return 0
}

// closeRoll ends the full report after Hello: what this side had held before and did not report, it holds no more.
// k.mu is held.
func (k *KDC) closeRoll(c *connection) {
	if c.roll == nil {
		return
	}
	for id, x := range k.live(c.name).sessions {
		if _, reported := c.roll[id]; !reported && x.began.Before(c.began) {
			x.of(c.name).told = x.of(c.name).told && !x.began.Before(c.began.Add(-control.ConfirmTimeout))
			k.letGo(x, x.of(c.name))
		}
	}
	c.roll = nil
	k.matchLater(c)
}
