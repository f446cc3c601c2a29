package tunssm

// Acquiring a session, the four steps of package control, on the acquirer's goroutine:
//
//  1. step1Hold: keep the packet that found no session.
//  2. step2Request: ask the first healthy KDC; the next one when it fails.
//  3. step3Install: turn the grant (or, asked by another SSM, the offer) into a session.
//  4. step4Release: send what was held, or answer it if the KDC refused.

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// goal is what is being acquired: the session for a service at an inner destination or, by name, for a peer.
type goal struct {
	service denialKey
	peer    string
}

func (g goal) String() string {
	if g.peer != "" {
		return g.peer
	}
	return g.service.dst.String()
}

// attempt is one request under way.
type attempt struct {
	goal      goal
	flow      *packet.Flow // decided on; nil for a peer by name
	requester *control.Requester
	id        uint64
	spi       packet.SPI
	link      *link
	tried     map[*link]bool
	replaces  *session // for life.go: the session that goes on meanwhile
	stale     int      // grants refused as older than what we have seen
	timeout   *timer
	began     time.Time // of step 1
	asked     time.Time // of the request under way
}

// maxStale is how often one attempt asks a KDC again whose grant was overtaken by a change of policy.
const maxStale = 3

// step1Hold keeps one outbound frame and sees to it that its session is asked for. The frame may find that things have
// changed since the loop handed it over.
func (a *acquirer) step1Hold(frame []byte) {
	flow, ok := a.out.classify(frame)
	if !ok {
		return
	}
	switch s, way := a.table.Load().outbound(flow); way {
	case waySend:
		a.out.carry(s, s.target())
		return
	case wayRefuse:
		a.drops.add(dropDenied)
		a.out.refuse(packet.AdminProhibited, 0, frame[packet.VirtioLen:])
		return
	}
	if !a.ours(flow.Src) {
		a.answer(frame, control.Denied) // no policy can permit what the other side would take for forged
		return
	}
	if reason, denied := a.denials.find(keyOf(flow), time.Now()); denied {
		a.answer(frame, reason)
		return
	}
	if s := a.provisional(flow); s != nil {
		a.out.carry(s, s.everywhere()...)
		return
	}
	if a.crowded(flow.Dst) {
		a.drops.add(dropHoldFull)
		return
	}
	waiting := a.holds.waiting(flow.Dst)
	ok, dropped := a.holds.hold(flow, frame)
	a.drops[dropHoldFull].Add(uint64(dropped))
	if !ok {
		a.drops.add(dropHoldFull)
		return
	}
	if waiting || a.asking[flow.Dst] > 0 {
		return // it goes the way of those before it, or is asked for in its turn
	}
	a.step("holding a packet", "step", 1, "flow", flow)
	if a.awaited(flow.Dst) {
		// The peer has asked for this session and its first frame is on the way; ask ourselves if it fails to come.
		a.timers.after(awaitConfirm, func() { a.resume(flow.Dst, 1) })
		return
	}
	a.ask(flow.Dst)
}

// ours says whether this SSM may send from an inner address. Before the first Welcome it cannot tell.
func (a *acquirer) ours(src netip.Addr) bool {
	c := &a.config
	return len(c.Addresses) == 0 || slices.Contains(c.Addresses, src) || covers(c.Subnets, src)
}

// provisional is a session of ours with the flow's peer that permits the flow and only lacks the proof that lets it
// replace an older one, which does not: another request would bring no more.
func (a *acquirer) provisional(f packet.Flow) *session {
	if p := a.table.Load().owner(f.Dst); p != nil {
		for _, s := range p.sessions {
			if s.requester && !s.confirmed.Load() && !s.superseded && s.boot == p.boot && s.permits(f) {
				return s
			}
		}
	}
	return nil
}

const (
	// awaitConfirm is how long held packets wait for the other side's first frame before this side asks too.
	awaitConfirm = 300 * time.Millisecond
	// maxAsking is how many services of one destination are asked for at once, after the first was denied. Until then
	// one request serves them all: a grant has every selector of the pair.
	maxAsking = 4
)

// awaited says whether there is a session with the peer that has dst which only lacks the requester's first frame, or whose
// first frame the inbound loop has opened just now, so that we are about to be told.
func (a *acquirer) awaited(dst netip.Addr) bool {
	p := a.table.Load().owner(dst)
	return p != nil && slices.ContainsFunc(p.sessions, func(s *session) bool {
		told := s.mayCarry() && (p.sending.Load() != nil || s.closing || s.superseded)
		return !told && time.Since(s.since) < awaitConfirm
	})
}

// resume asks for what is held for dst, the oldest first, until so many requests for it are under way.
func (a *acquirer) resume(dst netip.Addr, limit int) {
	for a.asking[dst] < limit {
		flow, ok := a.holds.next(dst, func(f packet.Flow) bool { return a.attempts[goal{service: keyOf(f)}] == nil })
		if !ok {
			return
		}
		a.step2Request(&attempt{goal: goal{service: keyOf(flow)}, flow: &flow, began: time.Now()})
	}
}

// begin and end keep the attempts and how many of them each destination has.
func (a *acquirer) begin(t *attempt) {
	if a.attempts[t.goal] == nil && t.flow != nil {
		a.asking[t.flow.Dst]++
	}
	a.attempts[t.goal] = t
}

func (a *acquirer) end(t *attempt) {
	if a.attempts[t.goal] != t {
		return
	}
	delete(a.attempts, t.goal)
	if t.flow == nil {
		return
	}
	if a.asking[t.flow.Dst]--; a.asking[t.flow.Dst] == 0 {
		delete(a.asking, t.flow.Dst)
	}
}

// step2Request asks the next healthy KDC that this attempt has not tried, with a fresh ephemeral each time.
func (a *acquirer) step2Request(t *attempt) {
	a.begin(t)
	l := a.healthy(t.tried)
	if l == nil {
		a.fail(t, control.NoKDC)
		return
	}
	t.spi = a.reserveSPI()
	r, err := control.NewRequester(a.self(l.conn), control.Want{Flow: t.flow, Peer: t.goal.peer}, t.spi)
	if err != nil {
		a.log.Error("cannot make a request", "step", 2, "for", t.goal, "error", err)
		a.fail(t, control.Unavailable)
		return
	}
	if t.tried == nil {
		t.tried = map[*link]bool{}
	}
	t.requester, t.link, t.tried[l] = r, l, true
	a.calls++
	t.id, t.asked = a.calls, time.Now()
	a.pending[t.id] = t
	asked := since(t.began)
	if err := l.conn.Send(t.id, r.Request()); err != nil {
		a.another(t, control.NoKDC)
		return
	}
	t.timeout = a.timers.after(lateAfter, func() { a.await(t) })
	a.step("requesting a session key", "step", 2, "for", t.goal, "kdc", l.address, "after", asked)
}

// another ends the request at this KDC and asks the next; when all have failed, or time is up, reason is final.
func (a *acquirer) another(t *attempt, reason control.Reason) {
	a.endRequest(t)
	if a.healthy(t.tried) == nil || time.Since(t.began) >= control.HoldTimeout {
		a.fail(t, reason)
		return
	}
	a.step2Request(t)
}

// endRequest forgets the request; a grant that comes late finds nothing.
func (a *acquirer) endRequest(t *attempt) {
	if t.requester != nil {
		t.requester.Abandon()
		a.eraser.Dropped()
	}
	a.timers.cancel(t.timeout)
	delete(a.pending, t.id)
}

// granted takes the KDC's yes through steps 3 and 4.
func (a *acquirer) granted(l *link, id uint64, g *control.KeyGrant) {
	t := a.pending[id]
	if t == nil || t.link != l {
		clear(g.K)
		return
	}
	if time.Since(t.asked) >= lateAfter {
		a.steady(l)
	}
	arrived := time.Now()
	keys, err := t.requester.Grant(g, a.asOf)
	if err != nil {
		a.log.Warn("refused a grant", "step", 3, "for", t.goal, "kdc", l.address, "error", err)
		a.refusedGrant(t, l, err)
		return
	}
	a.raise(keys.Terms.AsOf)
	a.endRequest(t)
	a.end(t)
	s, err := a.step3Install(keys, l)
	if err != nil {
		a.log.Warn("cannot use a grant", "step", 3, "for", t.goal, "kdc", l.address, "error", err)
		a.fail(t, control.Offline)
		return
	}
	keyed, installed := since(arrived), since(t.began)
	if t.flow != nil {
		a.serves(s, *t.flow)
	}
	held := a.step4Release(s)
	a.log.Info("installed a session", "step", 3, "session", s.id, "peer", s.peer.name, "role", "requester",
		"suite", s.suite, "keys", keyed, "after", installed)
	a.log.Info("released held packets", "step", 4, "session", s.id, "peer", s.peer.name, "packets", held,
		"after", since(t.began))
}

// refusedGrant asks again. A grant that crossed with a change of policy is stale through nobody's fault, so the same KDC
// may be asked again, within bounds.
func (a *acquirer) refusedGrant(t *attempt, l *link, err error) {
	switch {
	case errors.Is(err, control.ErrNonce): // not for this attempt, which goes on
		return
	case errors.Is(err, control.ErrStale) && t.stale < maxStale:
		t.stale++
		delete(t.tried, l)
	}
	a.another(t, control.Behind)
}

// step3Install makes a session of the keys and lets the inbound loop find it. from issued it.
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
	s.offered = keys.Candidates
	s.candidates.Store(&usable)
	a.peers[p.name] = p
	if p.boot != s.boot {
		p.boot = s.boot
		p.endpoint.Store(nil) // another run of the peer may be elsewhere
	}
	p.prefixes, p.asOf, p.given = s.prefixes, s.terms.AsOf, s.since
	p.sessions = append(p.sessions, s)
	a.orders.note(s)
	a.limit(s)
	a.publish()
	a.report.opened(s, from)
	return s, nil
}

// serves takes in what a grant says of the flow it was asked for: the session's peer has the destination, whatever an
// older session says; and what its selectors do not permit needs no second request.
func (a *acquirer) serves(s *session, f packet.Flow) {
	for q := a.table.Load().owner(f.Dst); q != nil && q != s.peer; q = a.table.Load().owner(f.Dst) {
		q.prefixes = slices.DeleteFunc(slices.Clone(q.prefixes), func(p netip.Prefix) bool { return p.Contains(f.Dst) })
		a.publish()
	}
	if !s.permits(f) {
		a.denials.add(keyOf(f), control.Denied, time.Now())
	}
	a.familiar.meet(f.Dst)
}

// step4Release sends what waited for the peer on its new session, to every candidate (the window drops the copies), or
// proves the session with a probe where nothing waited. Only then do the loops send on it, so that what was held goes
// first. It returns how many frames were held.
func (a *acquirer) step4Release(s *session) int {
	released := 0
	destinations := a.holds.destinations(func(d netip.Addr) bool { return a.reaches(s, d) })
	for _, dst := range destinations {
		a.holds.release(dst, func(h held) bool {
			if !a.settles(s, h.flow) {
				return false
			}
			released++
			a.release(s, h.frame)
			return true
		})
	}
	for _, t := range a.attempts {
		if t.flow != nil && a.settles(s, *t.flow) {
			a.endRequest(t) // the same peer by another of its addresses or services
			a.end(t)
		}
	}
	for range len(a.toHold) { // what the loop has handed over since, before it sends by itself
		released += a.releaseLate(s, <-a.toHold)
	}
	if s.requester && !s.confirmed.Load() {
		a.proveUntilConfirmed(s, firstProof, released == 0)
	}
	a.settle(s.peer)
	a.pings.opened(s)
	for _, dst := range destinations {
		a.resume(dst, 1) // what stays
	}
	return released
}

// reaches says whether what waits for dst goes out on s: its peer has dst, and no other was given that since.
func (a *acquirer) reaches(s *session, dst netip.Addr) bool {
	return covers(s.prefixes, dst) && a.table.Load().owner(dst) == s.peer
}

// settles says whether s is the answer to what f waits for: it permits f, or it does not and nothing newer is known.
func (a *acquirer) settles(s *session, f packet.Flow) bool {
	return a.reaches(s, f.Dst) && (s.permits(f) || s.scope.Load().settled(a.asOf))
}

// releaseLate takes a frame that is still on its way to be held: it goes out with those that were, or to its own wait.
func (a *acquirer) releaseLate(s *session, frame []byte) int {
	if flow, ok := a.out.classify(frame); !ok || !a.settles(s, flow) {
		a.step1Hold(frame)
		return 0
	}
	a.release(s, frame)
	return 1
}

// release sends one held frame, if the session's selectors permit it.
func (a *acquirer) release(s *session, frame []byte) {
	flow, ok := a.out.classify(frame)
	switch {
	case !ok:
	case s.permits(flow):
		a.out.carry(s, s.everywhere()...)
	default:
		a.answer(frame, control.Denied)
	}
}

func since(t time.Time) slog.Value { return slog.DurationValue(time.Since(t).Round(time.Microsecond)) }
