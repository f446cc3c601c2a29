package tunssm

// The life of a session once it is installed. Every tendInterval the acquirer looks at each and does what is due:
//
//	no data either way for idle       close: the requester says so and opens for closeLinger more; the responder, who
//	                                  should have heard it, ends alone responderLag later
//	no contact with a KDC for grace   destroyed: without a KDC nobody could revoke it
//	data sent, nothing opened         an echo each time after doubtAfter, since the one frame or its answer may have been
//	                                  lost; acquired again after deadAfter: fresh endpoints, fresh authorisation
//	rekey old, or rekeyFrames sealed  acquired again, make before break; the responder asks responderLag later if the
//	                                  requester has not. One that has carried no data is left to be idle: were it
//	                                  replaced, none would ever be
//	data opened, nothing sent         a keepalive after keepaliveAfter, so that the other side knows
//
// A session whose grant ends by time ends then, by the wall clock (endWithGrant). All else is on the monotonic clock,
// counted from the session's beginning. Probes are not data. A lifetime of zero in the terms sets no limit.

import (
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const (
	tendInterval   = time.Second
	keepaliveAfter = 5 * time.Second
	doubtAfter     = 7 * time.Second
	deadAfter      = 10 * time.Second
	responderLag   = 30 * time.Second
	closeLinger    = 2 * time.Second
	askAgain       = 10 * time.Second // between requests to replace the same session
	rekeyFrames    = 1 << 34
)

// tendAll looks at every session, and again after tendInterval.
func (a *acquirer) tendAll() {
	for _, p := range a.peers {
		if s := p.sending.Load(); s != nil && s.state == confirmed {
			a.tend(s, s.age())
		}
		a.tendPath(p)
		for _, s := range slices.Clone(p.sessions) {
			a.catchUp(s)
			a.expire(s)
		}
	}
	a.seekContact()
	a.knowOwn()
	a.rehome()
	a.tendRoutes()
	a.tendForwarding()
	a.leaveLoops() // which rules may lead to, and not only routes
	a.tellLoops()
	a.tellSuppressed()
	a.timers.after(tendInterval, a.tendAll)
}

const closedByPeer = "closed by the peer"

// catchUp does what inbound has found and the acquirer was not told, having had too much to do to be told more.
func (a *acquirer) catchUp(s *session) {
	switch {
	case s.closed.Load():
		a.destroy(s, closedByPeer)
	case s.heardAt() != 0:
		a.confirm(s)
	}
}

// expire ends s where it is beyond its limits, whether or not this side sends on it.
func (a *acquirer) expire(s *session) {
	grace, limit := s.terms.Grace(), s.terms.Idle()
	switch {
	case grace > 0 && time.Since(a.links.contact) >= grace:
		a.destroy(s, "no KDC within grace")
	case limit > 0 && s.idle(s.age()) >= limit+responderLag:
		a.destroy(s, "idle")
	}
}

// seekContact pings the KDCs where the shortest grace would otherwise run out between two regular pings: what ends a
// session is a KDC that is away, not one that has nothing to say.
func (a *acquirer) seekContact() {
	silence := time.Since(a.links.contact)
	soon := func(s *session) bool { return s.terms.Grace() > 0 && silence >= s.terms.Grace()/3 }
	for _, p := range a.peers {
		if !slices.ContainsFunc(p.sessions, soon) {
			continue
		}
		for _, l := range a.links.list {
			if l.conn != nil {
				a.pingKDC(l, l.conn)
			}
		}
		return
	}
}

// tend does what is due for the session that this side sends on.
func (a *acquirer) tend(s *session, now time.Duration) {
	limit, silence := s.terms.Idle(), s.unansweredFor(now)
	switch {
	case limit > 0 && s.requester && s.idle(now) >= limit:
		a.retire(s, "idle")
		return
	case silence >= deadAfter:
		a.replace(s, now, "nothing opened since data was sent")
	case s.rekeyAt > 0 && now >= s.rekeyAt && s.idle(now) < now || s.sealer.Sealed() >= rekeyFrames:
		a.replace(s, now, "rekey")
	}
	if silence >= doubtAfter && silence < deadAfter {
		a.sendProbe(s, packet.ProbeMessage{Kind: packet.Echo, ID: proofID}, s.target())
	}
	if spoke := max(s.tx.lastAt(), s.probedAt()); s.rx.lastAt() > spoke && now-spoke >= keepaliveAfter {
		a.sendProbe(s, packet.ProbeMessage{Kind: packet.Keepalive}, s.target())
	}
}

// rekeyAge is the age at which this side asks for a session to replace s. Jitter keeps the sessions of a fleet from being
// rekeyed at once; the responder waits for the requester first.
func (a *acquirer) rekeyAge(s *session) time.Duration {
	rekey := s.terms.Rekey()
	switch {
	case rekey == 0:
		return 0
	case s.requester:
		return rekey - a.random(rekey/10+1)
	}
	return rekey + responderLag
}

// replace acquires a session with the same peer anew; s goes on until that is confirmed.
func (a *acquirer) replace(s *session, now time.Duration, why string) {
	g := goal{peer: s.peer.name}
	if a.attempts[g] != nil || s.asked != 0 && now-s.asked < askAgain {
		return
	}
	s.asked = now
	a.logStep("acquiring again", "session", s.id, "peer", s.peer.name, "reason", why)
	a.step2Request(&attempt{goal: g, replaces: s, began: time.Now()})
}

// notReplaced takes the no to an attempt of replace. What policy no longer permits ends; so does a session whose peer is
// neither heard nor online. Anything else may pass, and s goes on.
func (a *acquirer) notReplaced(s *session, reason control.Reason) {
	switch reason {
	case control.Denied, control.Suspended, control.Unknown:
		a.destroy(s, reason.String())
	case control.Offline:
		if s.unansweredFor(s.age()) >= deadAfter {
			a.destroy(s, "not heard, and offline")
		}
	}
}

// retire ends s in agreement: the peer hears a close, and what is on the way from it is still opened.
func (a *acquirer) retire(s *session, why string) {
	s.become(closing)
	a.chooseSession(s.peer) // first, so that nothing follows the close
	a.sendProbe(s, packet.ProbeMessage{Kind: packet.Close}, s.target())
	s.timers = append(s.timers, a.timers.after(closeLinger, func() { a.destroy(s, why) }))
}
