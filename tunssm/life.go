package tunssm

import (
	"slices"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"time"
)

// acceptable refuses keys for a session that must not be: revoked meanwhile, of an order beyond all sense, or with a
// peer that claims our addresses.
func (a *acquirer) acceptable(k *control.Keys) error {
	switch {
	case a.revoked[k.Session]:
		return errRevoked
	case k.Order > maxOrder:
		return errOrder
	}
	for _, p := range k.Peer.Prefixes {
		for _, own := range k.Self.Prefixes {
			if p.Overlaps(own) {
				return errOverlap
			}
		}
	}
	return nil
}

// limit sets the times at which s ends by itself or is to be replaced, and makes room among the peer's sessions.
func (a *acquirer) limit(s *session) {
	s.rekeyAt = a.rekeyAge(s)
	s.timers = append(s.timers, a.timers.after(control.ConfirmTimeout, func() {
		if s.confirmed.Load() {
			return
		}
		if s.requester { // the responder may have heard us, though we never heard it
			a.sendProbe(nil, s, packet.ProbeMessage{Kind: packet.Close}, s.everywhere()...)
		}
		a.destroy(s, "never confirmed")
	}))
	if s.terms.Until > 0 {
		a.endWithGrant(s)
	}
	if of := s.peer.sessions; len(of) > maxPerPeer {
		oldest := slices.IndexFunc(of, func(o *session) bool { return o != s.peer.sending.Load() })
		a.destroy(of[oldest], "too many sessions with the peer")
	}
}

// maxNap is the longest sleep until a moment of the wall clock, which may be set meanwhile.
const maxNap = time.Minute

// endWithGrant destroys s when the wall clock says that its grant has ended.
func (a *acquirer) endWithGrant(s *session) {
	until := time.Unix(s.terms.Until, 0)
	s.until = a.timers.after(min(until.Sub(a.now()), maxNap), func() {
		if a.now().Before(until) {
			a.endWithGrant(s)
		} else {
			a.destroy(s, "the grant has ended")
		}
	})
}

// proveUntilConfirmed sends probes on a provisional session, at growing intervals, until the responder answers. The first
// goes now or, where a held packet has already gone, after wait. They are echoes, which the responder always answers: its
// answer to the first valid frame may be lost.
func (a *acquirer) proveUntilConfirmed(s *session, wait time.Duration, now bool) {
	if now {
		a.sendProbe(nil, s, packet.ProbeMessage{Kind: packet.Echo, ID: proofID}, s.everywhere()...)
	}
	s.proof = a.timers.after(wait, func() {
		if !s.confirmed.Load() {
			a.proveUntilConfirmed(s, min(2*wait, lastProof), true)
		}
	})
}

// confirmed: the inbound loop has opened the first frame on s. What waits for the peer goes out.
func (a *acquirer) confirmed(s *session) {
	if !slices.Contains(s.peer.sessions, s) {
		return
	}
	a.life("session confirmed", "session", s.id, "peer", s.peer.name, "requester", s.requester)
	a.step4Release(s)
}

// settle chooses the session to send on with p and lets those it replaces run out.
func (a *acquirer) settle(p *peer) {
	best := p.choose()
	p.sending.Store(best)
	if best == nil || !best.confirmed.Load() {
		return
	}
	for _, s := range p.sessions {
		replaced := s.boot != best.boot || s.before(best)
		if s == best || s.superseded || !replaced {
			continue
		}
		s.superseded = true
		s.timers = append(s.timers, a.timers.after(supersededFor, func() { a.destroy(s, "superseded") }))
	}
}

// destroy ends s: its keys are let go and the KDCs told. It is harmless where s has ended.
func (a *acquirer) destroy(s *session, why string) {
	p := s.peer
	at := slices.Index(p.sessions, s)
	if at < 0 {
		return
	}
	p.sessions = slices.Delete(p.sessions, at, at+1)
	if len(p.sessions) == 0 {
		delete(a.peers, p.name)
	}
	a.settle(p)
	a.publish()
	s.sealer.Destroy()
	s.opener.Destroy()
	a.eraser.Dropped()
	a.pastRx, a.pastTx = a.pastRx.plus(s.rx.status(s.since)), a.pastTx.plus(s.tx.status(s.since))
	for _, t := range append(s.timers, s.proof, s.until) {
		a.timers.cancel(t)
	}
	a.report.closed(s)
	a.life("destroyed a session", "session", s.id, "peer", p.name, "why", why)
}
