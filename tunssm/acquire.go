package tunssm

// Acquiring a session, the four steps of package control, on the acquirer's goroutine:
//
//  1. step1Hold: keep the packet that found no session, and ask for one, at once or in turn (turns.go).
//  2. step2Request: ask the first healthy KDC; the next one when it fails (attempt.go).
//  3. step3Install: turn the grant (or, asked by another SSM, the offer: respond.go) into a session.
//  4. step4Release: send what was held; where the KDC has refused, step4Refuse: answer it.

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// step1Hold keeps one outbound frame and sees to it that its session is asked for.
func (a *acquirer) step1Hold(frame []byte) {
	p, ok := a.out.classify(frame)
	if !ok || a.overtaken(p, frame) || a.refusedAlready(p.Flow, frame) || !a.hold(p.Flow, frame) {
		return
	}
	a.logStep("holding a packet", "step", 1, "flow", p.Flow)
	if a.awaited(p.Dst) {
		// The peer has asked for this session and its first frame is on the way; ask ourselves if it fails to come.
		a.timers.after(awaitConfirm, func() { a.askFor(p.Dst, 1) })
		return
	}
	a.askInTurn(p.Dst)
}

// overtaken deals with a frame that classify has loaded and that need not be held: things have changed since the loop
// handed it over, or a session of ours permits it and only lacks the proof that lets it replace an older one, which does
// not.
func (a *acquirer) overtaken(p packet.Packet, frame []byte) bool {
	switch s, verdict := a.table.Load().lookup(p, a.out.segments.Bytes()); verdict {
	case verdictSend:
		a.out.carryNow(s, s.target())
		return true
	case verdictRefuse:
		a.out.prohibit(frame)
		return true
	}
	s := a.provisional(p.Flow)
	if s != nil {
		a.out.carryNow(s, s.everywhere()...)
	}
	return s != nil
}

// refusedAlready answers a frame that would be denied, or was just now.
func (a *acquirer) refusedAlready(f packet.Flow, frame []byte) bool {
	reason, denied := a.denials.find(serviceOf(f), time.Now())
	if !a.ours(f.Src) {
		reason, denied = control.Denied, true // no policy can permit what the other side would take for forged
	}
	if denied {
		a.refuse(frame, reason)
	}
	return denied
}

// hold keeps the frame. It says whether that makes a session to be asked for: not where it goes the way of those before
// it.
func (a *acquirer) hold(f packet.Flow, frame []byte) bool {
	if a.crowded(f.Dst) {
		a.drops.add(dropHoldFull)
		return false
	}
	waiting := a.holds.waiting(f.Dst)
	held, dropped := a.holds.hold(f, frame)
	if !held {
		dropped++
	}
	a.drops[dropHoldFull].Add(uint64(dropped))
	return held && !waiting && a.asking[f.Dst] == 0
}

// ours says whether this SSM may send from an inner address. Before the first Welcome it cannot tell.
func (a *acquirer) ours(src netip.Addr) bool {
	c := &a.config
	return len(c.Addresses) == 0 || slices.Contains(c.Addresses, src) || packet.Covers(c.Subnets, src)
}

// provisional is a provisional session of ours with the flow's peer that permits the flow: another request would bring no
// more.
func (a *acquirer) provisional(f packet.Flow) *session {
	if p := a.table.Load().owner(f.Dst); p != nil {
		for _, s := range p.sessions {
			if s.requester && s.state == provisional && s.boot == p.boot && s.permits(f) {
				return s
			}
		}
	}
	return nil
}

// awaitConfirm is how long held packets wait for the other side's first frame before this side asks too.
const awaitConfirm = 300 * time.Millisecond

// awaited says whether there is a session with the peer that has dst which only lacks the requester's first frame: it has
// not come, or inbound is about to tell us of it.
func (a *acquirer) awaited(dst netip.Addr) bool {
	p := a.table.Load().owner(dst)
	return p != nil && slices.ContainsFunc(p.sessions, func(s *session) bool {
		return !s.requester && s.state == provisional && time.Since(s.since) < awaitConfirm
	})
}

// step2Request asks the next healthy KDC that this attempt has not tried, with a fresh ephemeral each time.
func (a *acquirer) step2Request(t *attempt) {
	a.begin(t)
	l := a.healthy(t.tried)
	if l == nil {
		a.step4Refuse(t, control.NoKDC)
		return
	}
	t.spi = a.reserveSPI()
	r, err := control.NewRequester(a.self(l.conn), control.Want{Flow: t.flow, Peer: t.goal.peer}, t.spi)
	if err != nil {
		a.log.Error("cannot make a request", "step", 2, "for", t.goal, "error", err)
		a.step4Refuse(t, control.Unavailable)
		return
	}
	if t.tried == nil {
		t.tried = map[*link]bool{}
	}
	t.requester, t.link, t.tried[l] = r, l, true
	t.id, t.asked = a.nextCall(), time.Now()
	a.pending[t.id] = t
	asked := since(t.began)
	if err := l.conn.Send(t.id, r.Request()); err != nil {
		a.another(t, control.NoKDC)
		return
	}
	t.timeout = a.timers.after(lateAfter, func() { a.watchRequest(t) })
	a.logStep("requesting a session key", "step", 2, "for", t.goal, "kdc", l.address, "after", asked)
}

// onKeyGrant takes the KDC's yes through steps 3 and 4.
func (a *acquirer) onKeyGrant(l *link, id uint64, g *control.KeyGrant) {
	t := a.pending[id]
	if t == nil || t.link != l {
		clear(g.K)
		a.decline(g) // it comes late
		return
	}
	if time.Since(t.asked) >= lateAfter {
		a.steady(l)
	}
	arrived := time.Now()
	keys, err := t.requester.Grant(g, a.asOf)
	if err != nil {
		a.log.Warn("refused a grant", "step", 3, "for", t.goal, "kdc", l.address, "error", err)
		a.decline(g)
		a.refusedGrant(t, l, err)
		return
	}
	a.raise(keys.Terms.AsOf)
	a.endRequest(t)
	a.end(t)
	s, err := a.step3Install(keys, l)
	if err != nil {
		a.log.Warn("cannot use a grant", "step", 3, "for", t.goal, "kdc", l.address, "error", err)
		a.decline(g)
		a.step4Refuse(t, control.Offline)
		return
	}
	keyed, installed := since(arrived), since(t.began)
	if t.flow != nil {
		a.noteDestination(s, *t.flow)
	}
	held := a.step4Release(s)
	a.log.Info("installed a session", "step", 3, "session", s.id, "peer", s.peer.name, "role", "requester",
		"suite", s.suite, "keys", keyed, "after", installed)
	a.log.Info("released held packets", "step", 4, "session", s.id, "peer", s.peer.name, "packets", held,
		"after", since(t.began))
}

// step3Install makes a session of the keys and lets inbound find it. from issued it.
func (a *acquirer) step3Install(keys *control.Keys, from *link) (*session, error) {
	if err := a.acceptable(keys); err != nil {
		keys.Destroy()
		return nil, err
	}
	p := a.peers[keys.Peer.Name]
	if p == nil {
		p = newPeer(keys.Peer.Name, a.host.MTU)
	}
	heard := p.boot == keys.Peer.Boot && p.endpoint.Load() != nil
	usable := a.reachable(keys.Candidates)
	if keys.Requester && len(usable) == 0 && !heard {
		keys.Destroy()
		return nil, errNoCandidate
	}
	s, err := newSession(p, keys)
	if err != nil {
		return nil, err
	}
	s.named = keys.Candidates
	s.candidates.Store(&usable)
	a.peers[p.name] = p
	if p.boot != s.boot {
		p.boot = s.boot
		p.endpoint.Store(nil) // another run of the peer may be elsewhere
	}
	p.prefixes, p.asOf, p.given = s.prefixes, s.terms.AsOf, s.since
	p.sessions = append(p.sessions, s)
	a.orders.note(s)
	a.scheduleEnds(s)
	a.publish()
	a.report.opened(s, from)
	return s, nil
}

// noteDestination takes in what a grant says of the flow it was asked for: the session's peer has the destination, whatever an
// older session says; and what its selectors do not permit needs no second request.
func (a *acquirer) noteDestination(s *session, f packet.Flow) {
	for q := a.table.Load().owner(f.Dst); q != nil && q != s.peer; q = a.table.Load().owner(f.Dst) {
		q.prefixes = slices.DeleteFunc(slices.Clone(q.prefixes), func(p netip.Prefix) bool { return p.Contains(f.Dst) })
		a.publish()
	}
	if !s.permits(f) {
		a.denials.add(serviceOf(f), control.Denied, time.Now())
	}
	a.familiar.meet(f.Dst)
}

// step4Release sends what waited for the peer on its new session. Only then do the loops send on it, so that what was held
// goes first. It returns how many frames were held. At either side it is taken again when the session is confirmed.
func (a *acquirer) step4Release(s *session) int {
	destinations := a.holds.destinations(func(d netip.Addr) bool { return a.reaches(s, d) })
	held := 0
	for _, dst := range destinations {
		held += a.releaseHeld(s, dst)
	}
	a.endResolved(s)
	for range len(a.toHold) { // what the loop has handed over since, before it sends by itself
		held += a.releaseLate(s, <-a.toHold)
	}
	if s.requester && s.state == provisional {
		a.proveUntilConfirmed(s, firstProof, held == 0)
	}
	a.chooseSession(s.peer)
	a.pings.opened(s)
	for _, dst := range destinations {
		a.askFor(dst, 1) // what stays
	}
	return held
}

// releaseHeld sends what s is the answer to, of what waits for dst, and returns how much that was.
func (a *acquirer) releaseHeld(s *session, dst netip.Addr) int {
	released := 0
	a.holds.release(dst, func(h held) bool {
		if !a.resolves(s, h.flow) {
			return false
		}
		released++
		a.release(s, h.frame)
		return true
	})
	return released
}

// releaseLate takes a frame that is still on its way to be held: it goes out with those that were, or to its own wait.
func (a *acquirer) releaseLate(s *session, frame []byte) int {
	if p, ok := a.out.classify(frame); !ok || !a.resolves(s, p.Flow) {
		a.step1Hold(frame)
		return 0
	}
	a.release(s, frame)
	return 1
}

// release sends one held frame to every candidate of the peer (the window drops the copies), if s may carry it.
func (a *acquirer) release(s *session, frame []byte) {
	p, ok := a.out.classify(frame)
	switch {
	case !ok:
	case s.carries(p, a.out.segments.Bytes()):
		a.out.carryNow(s, s.everywhere()...)
	default:
		a.out.prohibit(frame)
	}
}

// reaches says whether what waits for dst goes out on s: its peer has dst, and no other was given that since.
func (a *acquirer) reaches(s *session, dst netip.Addr) bool {
	return packet.Covers(s.prefixes, dst) && a.table.Load().owner(dst) == s.peer
}

// resolves says whether s is the answer to what f waits for: it permits f, or it does not and nothing newer is known.
func (a *acquirer) resolves(s *session, f packet.Flow) bool {
	return a.reaches(s, f.Dst) && (s.permits(f) || s.scope.Load().final(a.asOf))
}

// onKeyDenial takes the KDC's no: ask another KDC where that may help, otherwise it is final.
func (a *acquirer) onKeyDenial(l *link, id uint64, d *control.KeyDenial) {
	t := a.pending[id]
	if t == nil || t.link != l || d.Na != t.requester.Na() {
		return
	}
	if d.Reason.AskAnother() {
		a.another(t, d.Reason)
		return
	}
	a.endRequest(t)
	a.step4Refuse(t, d.Reason)
}

// step4Refuse ends the attempt with a no. Held packets of the same kind are answered; others for the destination, which
// policy may treat differently, are asked for in their turn.
func (a *acquirer) step4Refuse(t *attempt, reason control.Reason) {
	a.logStep("no session", "step", 4, "for", t.goal, "reason", reason, "after", since(t.began))
	a.end(t)
	if t.flow == nil {
		a.pings.fail(t.goal.peer, reason)
		if t.replaces != nil {
			a.notReplaced(t.replaces, reason)
		}
		return
	}
	service := serviceOf(*t.flow)
	a.denials.add(service, reason, time.Now())
	a.holds.release(service.dst, func(h held) bool {
		if serviceOf(h.flow) != service {
			return false
		}
		a.refuse(h.frame, reason)
		return true
	})
	a.askFor(service.dst, maxAsking)
}

// refuse drops a held frame and tells its sender.
func (a *acquirer) refuse(frame []byte, reason control.Reason) {
	switch reason {
	case control.Denied, control.Suspended, control.Refused:
		a.out.prohibit(frame)
	default:
		a.out.unreachable(frame)
	}
}

func since(t time.Time) slog.Value { return slog.DurationValue(time.Since(t).Round(time.Microsecond)) }
