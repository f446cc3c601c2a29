package tunssm

// The life of a session, which the acquirer alone leads on:
//
//	provisional --confirm--> confirmed              its first frame has been opened (inbound.go)
//	provisional, confirmed --supersede--> superseded    there is a confirmed one that is sent on in its place
//	provisional, confirmed --retire--> closing      this side has said close (tend.go)
//	provisional, confirmed, superseded, closing --destroy--> destroyed
//
// All but a destroyed one open frames. What is sent on is the peer's choice among the provisional ones of ours and the
// confirmed ones (peer.go). What else is due in a session's life is in tend.go.

import (
	"fmt"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const (
	supersededFor = 30 * time.Second       // a session that was replaced still opens what is on the way
	firstProof    = 200 * time.Millisecond // between the probes of a provisional session at first, doubling
	lastProof     = time.Second            // and at most
	maxPerPeer    = 64                     // sessions with one peer; the oldest goes first
	maxOrder      = 1 << 62                // no honest responder gets there, and the orders after it must not run over
	maxNap        = time.Minute            // the longest sleep until a moment of the wall clock, which may be set meanwhile
)

// state is where a session is in its life.
type state uint8

const (
	provisional state = iota
	confirmed
	superseded
	closing
	destroyed
)

var stateNames = [...]string{"provisional", "confirmed", "superseded", "closing", "destroyed"}

func (s state) String() string { return stateNames[s] }

// after is the states that may follow each.
var after = [...][]state{
	provisional: {confirmed, superseded, closing, destroyed},
	confirmed:   {superseded, closing, destroyed},
	superseded:  {destroyed},
	closing:     {destroyed},
	destroyed:   {},
}

// become leads s on to its next state.
func (s *session) become(next state) {
	if !slices.Contains(after[s.state], next) {
		panic(fmt.Sprintf("tunssm: a session that is %v becomes %v", s.state, next))
	}
	s.state = next
}

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

// scheduleEnds sets the times at which s ends by itself or is to be replaced, and makes room among the peer's sessions.
func (a *acquirer) scheduleEnds(s *session) {
	s.rekeyAt = a.rekeyAge(s)
	s.timers = append(s.timers, a.timers.after(control.ConfirmTimeout, func() {
		if s.heardAt() != 0 {
			return
		}
		if s.requester { // the responder may have heard us, though we never heard it
			a.sendProbe(s, packet.ProbeMessage{Kind: packet.Close}, s.everywhere()...)
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
		a.sendProbe(s, packet.ProbeMessage{Kind: packet.Echo, ID: proofID}, s.everywhere()...)
	}
	s.proof = a.timers.after(wait, func() {
		if s.state == provisional {
			a.proveUntilConfirmed(s, min(2*wait, lastProof), true)
		}
	})
}

// confirm: inbound has opened the first frame on s. What waits for the peer goes out.
func (a *acquirer) confirm(s *session) {
	if s.state != provisional {
		return
	}
	s.become(confirmed)
	a.logSession("session confirmed", "session", s.id, "peer", s.peer.name)
	a.step4Release(s)
}

// chooseSession chooses the session to send on with p and lets those it replaces run out.
func (a *acquirer) chooseSession(p *peer) {
	best := p.choose()
	p.sending.Store(best)
	if best == nil || best.state != confirmed {
		return
	}
	for _, s := range p.sessions {
		if s != best && (s.boot != best.boot || s.before(best)) {
			a.supersede(s)
		}
	}
}

// supersede lets s run out: it opens what is on the way.
func (a *acquirer) supersede(s *session) {
	if s.state == superseded || s.state == closing {
		return
	}
	s.become(superseded)
	s.timers = append(s.timers, a.timers.after(supersededFor, func() { a.destroy(s, "superseded") }))
}

// destroy ends s: its keys are let go and the KDCs told. It is harmless where s has ended.
func (a *acquirer) destroy(s *session, why string) {
	if s.state == destroyed {
		return
	}
	s.become(destroyed)
	p := s.peer
	p.sessions = slices.DeleteFunc(p.sessions, func(o *session) bool { return o == s })
	if len(p.sessions) == 0 {
		delete(a.peers, p.name)
	}
	a.chooseSession(p)
	a.publish()
	s.sealer.Destroy()
	s.opener.Destroy()
	a.eraser.Dropped()
	a.pastRx, a.pastTx = a.pastRx.plus(s.rx.status(s.since)), a.pastTx.plus(s.tx.status(s.since))
	for _, t := range append(s.timers, s.proof, s.until) {
		a.timers.cancel(t)
	}
	a.report.closed(s)
	a.logSession("destroyed a session", "session", s.id, "peer", p.name, "reason", why)
}
