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
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// goal is what is being acquired: the session for an inner destination or, by name, for a peer.
type goal struct {
	dst  netip.Addr
	peer string
}

func (g goal) String() string {
	if g.peer != "" {
		return g.peer
	}
	return g.dst.String()
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
		a.out.refuse(packet.AdminProhibited, frame)
		return
	}
	if reason, denied := a.denials.find(keyOf(flow), time.Now()); denied {
		a.answer(frame, reason)
		return
	}
	waiting := a.holds.first(flow.Dst) != nil
	if !a.holds.hold(flow.Dst, frame) {
		a.drops.add(dropHoldFull)
		return
	}
	g := goal{dst: flow.Dst}
	if waiting || a.attempts[g] != nil {
		return // it goes the way of those before it
	}
	a.log.Info("holding a packet", "step", 1, "flow", flow)
	if s := a.awaited(flow.Dst); s != nil {
		// The peer has asked for this session and its first frame is on the way; ask ourselves if it fails to come.
		a.timers.after(awaitConfirm, func() { a.resume(g) })
		return
	}
	a.step2Request(&attempt{goal: g, flow: &flow, began: time.Now()})
}

// awaitConfirm is how long held packets wait for the other side's first frame before this side asks too.
const awaitConfirm = 300 * time.Millisecond

// awaited is a session with the peer that has dst which only lacks the requester's first frame.
func (a *acquirer) awaited(dst netip.Addr) *session {
	for _, p := range a.peers {
		if !covers(p.prefixes, dst) {
			continue
		}
		for _, s := range p.sessions {
			if !s.mayCarry() && time.Since(s.since) < awaitConfirm {
				return s
			}
		}
	}
	return nil
}

// resume asks for what is still held for g, if nobody has.
func (a *acquirer) resume(g goal) {
	frame := a.holds.first(g.dst)
	if frame == nil || a.attempts[g] != nil {
		return
	}
	if flow, ok := a.out.classify(frame); ok {
		a.step2Request(&attempt{goal: g, flow: &flow, began: time.Now()})
	}
}

// step2Request asks the next healthy KDC that this attempt has not tried, with a fresh ephemeral each time.
func (a *acquirer) step2Request(t *attempt) {
	a.attempts[t.goal] = t
	l := a.healthy(t.tried)
	if l == nil {
		a.fail(t, control.NoKDC)
		return
	}
	t.spi = a.reserveSPI()
	r, err := control.NewRequester(a.self(), control.Want{Flow: t.flow, Peer: t.goal.peer}, t.spi)
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
	t.id = a.calls
	a.pending[t.id] = t
	t.timeout = a.timers.after(control.RequestTimeout, func() { a.another(t, control.NoKDC) })
	asked := since(t.began)
	if err := l.conn.Send(t.id, r.Request()); err != nil {
		a.another(t, control.NoKDC)
		return
	}
	a.log.Info("requesting a session key", "step", 2, "for", t.goal, "kdc", l.address, "after", asked)
}

// another ends the request at this KDC and asks the next; when all have failed, reason is final.
func (a *acquirer) another(t *attempt, reason control.Reason) {
	a.endRequest(t)
	if a.healthy(t.tried) == nil {
		a.fail(t, reason)
		return
	}
	a.step2Request(t)
}

// endRequest forgets the request; a grant that comes late finds nothing.
func (a *acquirer) endRequest(t *attempt) {
	if t.requester != nil {
		t.requester.Abandon()
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
	asked := time.Now()
	keys, err := t.requester.Grant(g, a.asOf)
	if err != nil {
		a.log.Warn("refused a grant", "step", 3, "for", t.goal, "kdc", l.address, "error", err)
		a.refusedGrant(t, l, err)
		return
	}
	a.raise(keys.Terms.AsOf)
	a.endRequest(t)
	delete(a.attempts, t.goal)
	s, err := a.step3Install(keys, l)
	if err != nil {
		a.log.Warn("cannot use a grant", "step", 3, "for", t.goal, "kdc", l.address, "error", err)
		a.fail(t, control.Offline)
		return
	}
	keyed, installed := since(asked), since(t.began)
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

// denied takes the KDC's no: ask another KDC where that may help, otherwise answer what was held.
func (a *acquirer) denied(l *link, id uint64, d *control.KeyDenial) {
	t := a.pending[id]
	if t == nil || t.link != l || d.Na != t.requester.Na() {
		return
	}
	if d.Reason.AskAnother() {
		a.another(t, d.Reason)
		return
	}
	a.endRequest(t)
	a.fail(t, d.Reason)
}

// fail ends the attempt with a no. Held packets of the same kind are answered; others for the destination, which policy
// may treat differently, are asked for in their turn.
func (a *acquirer) fail(t *attempt, reason control.Reason) {
	a.log.Info("no session", "step", 3, "for", t.goal, "reason", reason, "after", since(t.began))
	delete(a.attempts, t.goal)
	if t.flow == nil {
		a.pings.fail(t.goal.peer, reason)
		if t.replaces != nil {
			a.notReplaced(t.replaces, reason)
		}
		return
	}
	key := keyOf(*t.flow)
	a.denials.add(key, reason, time.Now())
	a.holds.release(t.goal.dst, func(frame []byte) bool {
		flow, ok := a.out.classify(frame)
		if ok && keyOf(flow) != key {
			return false
		}
		a.answer(frame, reason)
		return true
	})
	a.resume(t.goal)
}

// answer drops a packet that cannot be sent and tells its sender.
func (a *acquirer) answer(frame []byte, reason control.Reason) {
	switch reason {
	case control.Denied, control.Suspended, control.Refused:
		a.drops.add(dropDenied)
		a.out.refuse(packet.AdminProhibited, frame)
	default:
		a.drops.add(dropUnreachable)
		a.out.refuse(packet.HostUnreachable, frame)
	}
}

// step3Install makes a session of the keys and lets the inbound loop find it. from issued it.
func (a *acquirer) step3Install(keys *control.Keys, from *link) (*session, error) {
	if err := a.acceptable(keys); err != nil {
		keys.Destroy()
		return nil, err
	}
	p := a.peers[keys.Peer.Name]
	if p == nil {
		p = &peer{name: keys.Peer.Name}
	}
	keys.Candidates = a.reachable(keys.Candidates)
	heard := p.boot == keys.Peer.Boot && p.endpoint.Load() != nil
	if keys.Requester && len(keys.Candidates) == 0 && !heard {
		keys.Destroy()
		return nil, errNoCandidate
	}
	s, err := newSession(p, keys)
	if err != nil {
		return nil, err
	}
	a.peers[p.name] = p
	if p.boot != s.boot {
		p.boot = s.boot
		p.endpoint.Store(nil) // another run of the peer may be elsewhere
	}
	p.prefixes = s.prefixes
	p.sessions = append(p.sessions, s)
	a.orders.note(s)
	a.limit(s)
	a.publish()
	a.report.opened(s, from)
	return s, nil
}

// step4Release sends what waited for the peer on its new session, to every candidate (the window drops the copies), or
// proves the session with a probe where nothing waited. Only then do the loops send on it, so that what was held goes
// first. It returns how many frames were held.
func (a *acquirer) step4Release(s *session) int {
	released := 0
	for _, dst := range a.holds.destinations(func(d netip.Addr) bool { return covers(s.prefixes, d) }) {
		a.holds.release(dst, func(frame []byte) bool {
			released++
			a.release(s, frame)
			return true
		})
		if t := a.attempts[goal{dst: dst}]; t != nil {
			a.endRequest(t) // the same peer by another of its addresses
			delete(a.attempts, t.goal)
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
	return released
}

// releaseLate takes a frame that is still on its way to be held: it goes out with those that were, or to its own wait.
func (a *acquirer) releaseLate(s *session, frame []byte) int {
	if flow, ok := a.out.classify(frame); !ok || !covers(s.prefixes, flow.Dst) {
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
	case s.terms.Selectors.Permits(flow):
		a.out.carry(s, s.everywhere()...)
	default:
		a.answer(frame, control.Denied)
	}
}

func since(t time.Time) slog.Value { return slog.DurationValue(time.Since(t).Round(time.Microsecond)) }
