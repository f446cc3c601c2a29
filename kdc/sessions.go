package kdc

import (
	"net/netip"
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
	sides     [2]side   // requester, responder
	by        string    // the peer whose budget it counts against
	since     time.Time // as people read it
	began     time.Time // the same on the monotonic clock
	heard     time.Time // likewise, of the report that it was first known by; zero where this run granted it
	asOf      control.AsOf
	digest    control.Digest
	selectors packet.Selectors  // where another run or another KDC granted it, nil until policy had those of digest
	prefixes  [2][]netip.Prefix // what its sides may use inside, likewise nil
	suite     packet.Suite      // likewise zero
	grant     string            // likewise empty
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
		prefixes: [2][]netip.Prefix{x.a.Prefixes, x.b.Prefixes},
		suite:    x.suite, grant: x.verdict.grant,
	}
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
	reason := control.Changed
	k.mu.Lock()
	p := k.live(c.name)
	for _, e := range m.Opened {
		if c.roll != nil {
			c.roll[e.ID] = struct{}{}
		}
		why := k.opened(s, c, e)
		if known := k.sessions[e.ID]; why != 0 && known != nil && !k.permits(s, known) {
			doomed = append(doomed, known)
		} else if why != 0 {
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
		k.audit.add(event{Event: "report.refused", Peer: c.name, Count: uint64(len(refuse)), Reason: reason.String()})
		c.conn.Send(0, &control.Revoke{Sessions: refuse, Reason: reason, AsOf: s.asOf})
	}
	k.revoke(doomed, control.Changed)
}

// opened takes one reported session in, or says why it must go. k.mu is held.
func (k *KDC) opened(s *snapshot, c *connection, e control.SessionEntry) control.Reason {
	p := k.live(c.name)
	if d := p.owed[e.ID]; d != nil {
		return d.reason
	}
	if why, ok := k.revoked.has(e.ID); ok {
		return why
	}
	if known := k.sessions[e.ID]; known != nil {
		end := known.of(c.name)
		if end == nil || end.boot != c.boot || known.digest != e.Selectors {
			return control.Changed
		}
		end.held, end.told = true, true
		if e.AsOf.Before(known.asOf) { // the other side claimed that it came of a newer state
			if known.asOf = e.AsOf; known.suite == 0 {
				known.prefixes = [2][]netip.Prefix{}
			}
			if !k.permits(s, known) {
				return control.Changed
			}
		}
		return 0
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
	if !k.permits(s, x) {
		return control.Changed
	}
	if !k.addSession(x) {
		return control.Busy
	}
	x.of(c.name).told = true
	k.matchLater(c)
	return 0
}

// permits says whether a live session may go on under a snapshot: what it allows must be covered by what the pair is
// permitted now. A session that is known by its digest only must be exactly that, and is then known. One that another KDC
// granted under a newer state is not ours to cut: it is judged when the snapshot has caught up. k.mu is held.
func (k *KDC) permits(s *snapshot, x *session) bool {
	if s.asOf.Before(x.asOf) {
		k.early = true
		return true
	}
	pair := s.compiled.Pair(x.sides[0].peer, x.sides[1].peer, k.now()).Selectors
	if len(pair) == 0 || !s.leaves(x) {
		return false
	}
	if x.selectors == nil {
		if control.DigestSelectors(pair) != x.digest {
			return false
		}
		x.selectors = pair
	}
	for _, old := range x.selectors {
		if !slices.ContainsFunc(pair, func(now packet.Selector) bool { return now.Covers(old) }) {
			return false
		}
	}
	return true
}

// leaves says whether both sides of a session still have what it lets them use inside. Of one that only its sides tell
// of that is what they had as of its decision: the present, unless that has changed since. k.mu is held.
func (s *snapshot) leaves(x *session) bool {
	var prefixes [2][]netip.Prefix
	for i, end := range x.sides {
		p := s.peers[end.peer]
		if p == nil {
			return false
		}
		prefixes[i] = p.prefixes
		if x.prefixes[i] == nil {
			if x.asOf.Before(control.AsOf{Epoch: s.asOf.Epoch, Revision: uint64(p.owned)}) {
				return false
			}
			continue
		}
		for _, old := range x.prefixes[i] {
			if !slices.ContainsFunc(p.prefixes, func(now netip.Prefix) bool {
				return now.Bits() <= old.Bits() && now.Contains(old.Addr())
			}) {
				return false
			}
		}
	}
	for i := range prefixes {
		if x.prefixes[i] == nil {
			x.prefixes[i] = prefixes[i]
		}
	}
	return true
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
