package kdc

import (
	"slices"
	"time"

	"ssmnet/packet/control"
)

// onSessionReport takes a SessionReport: sessions that were opened and closed, and after Hello all that there are.
func (k *KDC) onSessionReport(c *connection, m *control.SessionReport) {
	s := k.snapshot.Load()
	var refuse []control.SessionID
	var o orders
	reason := control.Changed
	k.mu.Lock()
	p := k.livePeer(c.name)
	for _, e := range m.Opened {
		if c.roll != nil {
			c.roll[e.ID] = struct{}{}
		}
		if why := k.opened(s, c, e, &o); why != 0 {
			refuse, reason = append(refuse, e.ID), why
		}
	}
	for _, id := range m.Closed {
		if x := p.sessions[id]; x != nil && x.of(c.name).boot == c.boot {
			k.letGo(x, x.of(c.name), closes)
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
	k.carryOut(s, o, newReceipts())
}

// opened takes one reported session in, or says why it must go; o has what its sides are to be told. k.mu is held.
func (k *KDC) opened(s *snapshot, c *connection, e control.SessionEntry, o *orders) control.Reason {
	d := k.livePeer(c.name).owed[e.ID]
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
		end.hold = holdAfter[end.hold][tells]
		if d == nil { // otherwise it may not have heard of the Narrow when it reported
			k.retold(s, known, end, e, o)
		}
		return 0
	}
	x := k.reportedBy(c, e)
	if end := x.of(c.name); end == nil || end.boot != c.boot || e.Requester == e.Responder {
		return control.Malformed
	}
	far := x.other(c.name)
	q := k.live[far.peer]
	if q != nil && (slices.Contains(q.displaced, far.boot) || q.conn != nil && q.boot != far.boot) {
		return control.Restarted
	}
	j, pair := k.judge(s, x)
	if j == ends {
		return control.Changed
	}
	if !k.addSession(x) {
		return control.Busy
	}
	x.of(c.name).hold = holds
	k.matchLater(c)
	k.conclude(x, j, pair, o)
	return 0
}

// reportedBy is the session of an entry, as its sides may be supposed to hold it.
func (k *KDC) reportedBy(c *connection, e control.SessionEntry) *session {
	age := time.Duration(min(e.AgeMillis, 1<<40)) * time.Millisecond
	return &session{
		id: e.ID, by: c.name,
		sides: [2]side{{e.Requester, e.BootA, supposed}, {e.Responder, e.BootB, supposed}},
		since: k.now().Add(-age), began: time.Now().Add(-age), heard: time.Now(), asOf: e.AsOf, digest: e.Digest,
	}
}

// retold takes what a side tells of a session that is known. Where that is not what is known of its selectors one of them
// is out of date: the ack of a Narrow says whether they then agree. k.mu is held.
func (k *KDC) retold(s *snapshot, x *session, end *side, e control.SessionEntry, o *orders) {
	newer := x.asOf.Before(e.AsOf)
	if e.AsOf.Before(x.asOf) { // it is yet to be narrowed, or the other side claimed that it came of a newer state
		x.asOf = e.AsOf
	}
	if j := k.review(s, x, o); j == narrows || j == ends || e.Digest == x.digest {
		return
	}
	switch n := (narrowing{pair: k.permitted(s, x), only: end}); {
	case s.asOf.Before(e.AsOf): // another KDC has narrowed it under a state that we have yet to see, and judge it by
	case newer: // likewise, under one that we have seen
		n.only, x.digest = nil, control.Digest{}
		o.add(x, n)
	default:
		o.add(x, n)
	}
}

// closeRoll ends the full report after Hello: what this side had held before and did not report, it holds no more.
// k.mu is held.
func (k *KDC) closeRoll(c *connection) {
	if c.roll == nil {
		return
	}
	for id, x := range k.livePeer(c.name).sessions {
		if _, reported := c.roll[id]; !reported && x.began.Before(c.began) {
			said := misses
			if !x.began.Before(c.began.Add(-control.ConfirmTimeout)) {
				said = closes // its grant may have been lost: the other side gives it up unconfirmed
			}
			k.letGo(x, x.of(c.name), said)
		}
	}
	c.roll = nil
	k.matchLater(c)
}

// A session that one side alone holds carries nothing: what the other sends finds no SPI. It comes about where a
// revocation reached one side only and the KDC that was owed the other's ack is no more. Both sides' reports show it.

// matchGrace is how long the report of one side may precede the other's.
const matchGrace = 3 * time.Second

// matchLater looks at the sessions of a connection's peer once the reports of their other sides must have come in.
// k.mu is held.
func (k *KDC) matchLater(c *connection) {
	if c.matching {
		return
	}
	c.matching = true
	k.after(matchGrace, func() { k.match(c) })
}

// match revokes the sessions of a connection's peer that one side says it has and the other, which has reported all of
// its own, does not.
func (k *KDC) match(c *connection) {
	k.gate.RLock()
	defer k.gate.RUnlock()
	var doomed []*session
	k.mu.Lock()
	c.matching = false
	if p := k.live[c.name]; p != nil && p.conn == c {
		for _, s := range p.sessions {
			if time.Since(s.heard) < matchGrace {
				k.matchLater(c)
				continue
			}
			for i := range s.sides {
				if end := &s.sides[i]; !end.hold.told() && s.sides[1-i].hold.told() && k.reportedAll(end) {
					end.hold = lacks
					doomed = append(doomed, s)
				}
			}
		}
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Changed, newReceipts())
}

// reportedAll says that the run of a side is connected and has had the time to report whatever it holds. k.mu is held.
func (k *KDC) reportedAll(end *side) bool {
	c := k.connected(end.peer)
	return c != nil && c.boot == end.boot && c.roll == nil && !c.endless && time.Since(c.began) >= matchGrace
}
