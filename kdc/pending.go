package kdc

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"ssmnet/packet/control"
)

// What surrounds the five steps: exchanges in flight, their deadlines, and the ways in which they end without a grant. An
// exchange is in one phase at a time:
//
//	asked --> offered --> answered --> granted   the five steps
//	asked --> waiting --> asked                  it has seen a newer state than ours
//	answered --> asked                           a new snapshot: it begins again (what is only offered is taken first)
//	asked --> denied
//	answered --> denied
//
// Asked and answered, it is in the hand of one goroutine, which holds KDC.gate until it has gone on; offered and waiting, it
// is in nobody's, and a timer is set: whoever comes first, with an answer, a snapshot, the timer or the end of a connection,
// takes it. A drawing that says otherwise than phases fails TestPhases.
type phase uint8

const (
	phaseAsked phase = iota
	phaseWaiting
	phaseOffered
	phaseAnswered // or its time is up, or a new snapshot has come
	phaseGranted
	phaseDenied
)

var phases = map[phase][]phase{
	phaseAsked:    {phaseWaiting, phaseOffered, phaseDenied},
	phaseWaiting:  {phaseAsked},
	phaseOffered:  {phaseAnswered},
	phaseAnswered: {phaseAsked, phaseGranted, phaseDenied},
}

// behindTimeout is how long a request waits for the state that it was made under.
const behindTimeout = time.Second

// exchanges are those in flight.
type exchanges struct {
	pending  map[control.SessionID]*exchange // offered
	waiting  map[*exchange]struct{}          // for a newer snapshot
	reissued int                             // that a new snapshot made begin again
}

func newExchanges() exchanges {
	return exchanges{pending: map[control.SessionID]*exchange{}, waiting: map[*exchange]struct{}{}}
}

// move takes an exchange to its next phase. Which, its caller knows: it has it in hand, or holds k.mu since it looked.
// k.mu is held.
func (k *KDC) move(x *exchange, to phase) {
	if !slices.Contains(phases[x.phase], to) {
		panic(fmt.Sprintf("exchange of %s from phase %d to %d", x.from.name, x.phase, to))
	}
	switch x.phase {
	case phaseWaiting:
		delete(k.waiting, x)
		x.timer.stop()
	case phaseOffered:
		delete(k.pending, x.session)
		delete(x.to.offers, x)
		x.timer.stop()
	}
	x.phase = to
	session := x.session
	switch to {
	case phaseWaiting:
		k.waiting[x] = struct{}{}
		x.timer = k.after(behindTimeout, func() { k.overdue(x, to, session) })
	case phaseOffered:
		k.pending[session] = x
		x.to.offers[x] = struct{}{}
		x.timer = k.after(control.AcceptTimeout, func() { k.overdue(x, to, session) })
	case phaseGranted, phaseDenied:
		delete(x.from.requests, x)
		if x.reissued {
			k.reissued--
		}
	}
}

// take takes an exchange in hand, false where somebody has it, or it has ended. k.mu is held.
func (k *KDC) take(x *exchange) bool {
	switch x.phase {
	case phaseWaiting:
		k.move(x, phaseAsked)
	case phaseOffered:
		k.move(x, phaseAnswered)
	default:
		return false
	}
	return true
}

// enter counts an exchange in, false where its connection or the KDC has too many.
func (k *KDC) enter(x *exchange) bool {
	k.counts.requests.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rate.add(time.Since(k.began))
	if len(x.from.requests) >= maxRequests || len(k.pending)+len(k.waiting) >= maxPending || x.from.gone {
		return false
	}
	x.from.requests[x] = struct{}{}
	return true
}

// answered takes the exchange that a responder's accept is for; nil where there is none, and foreign where it was offered to
// somebody else.
func (k *KDC) answered(c *connection, id control.SessionID) (x *exchange, foreign bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x = k.pending[id]
	if x == nil || x.to != c {
		return nil, x != nil
	}
	k.take(x)
	return x, false
}

// onKeyDenial takes the responder's KeyDenial, which names na alone. Offers that wait for one responder are few. A responder
// does not speak for the KDC: it is behind, or it refuses, and the requester and the audit record are told no other reason.
func (k *KDC) onKeyDenial(c *connection, m *control.KeyDenial) {
	var found *exchange
	k.mu.Lock()
	for x := range c.offers {
		if x.request.Na == m.Na {
			found = x
			k.take(x)
			break
		}
	}
	k.mu.Unlock()
	if found == nil {
		return
	}
	reason := control.Refused
	if m.Reason == control.Behind {
		reason = control.Behind
	}
	k.deny(found, reason)
}

// deny ends an exchange and answers the requester with the reason.
func (k *KDC) deny(x *exchange, reason control.Reason) {
	k.end(x, reason)
	if err := x.from.conn.Send(x.call, &control.KeyDenial{Na: x.request.Na, Reason: reason}); err != nil {
		k.log.Debug("denial not sent", "step", 3, "requester", x.from.name, "error", err)
	}
}

// end is deny where no answer is due.
func (k *KDC) end(x *exchange, reason control.Reason) {
	k.mu.Lock()
	k.move(x, phaseDenied)
	k.mu.Unlock()
	k.record(x, reason)
}

// withdraw makes a responder drop what it may have installed for an offer that comes to nothing. No receipt is due:
// the requester never had the key.
func (k *KDC) withdraw(c *connection, id control.SessionID, reason control.Reason) {
	c.conn.Send(0, &control.Revoke{
		Sessions: []control.SessionID{id}, Reason: reason, AsOf: k.snapshot.Load().asOf,
	})
}

// await lets a request that has seen a newer state than ours wait for our watch to catch up.
func (k *KDC) await(x *exchange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.move(x, phaseWaiting)
}

// overdue ends an exchange that has been in a phase for as long as it may. A responder that has not accepted is asked
// whether it lives.
func (k *KDC) overdue(x *exchange, in phase, session control.SessionID) {
	k.gate.RLock()
	defer k.gate.RUnlock()
	k.mu.Lock()
	still := x.phase == in && x.session == session && k.take(x)
	k.mu.Unlock()
	switch {
	case !still:
	case in == phaseWaiting:
		k.deny(x, control.Behind)
	default:
		k.withdraw(x.to, session, control.Offline)
		x.to.conn.Send(0, &control.Ping{})
		k.deny(x, control.Offline)
	}
}

// caughtUp takes the requests that have waited for s. KDC.gate is held for writing.
func (k *KDC) caughtUp(s *snapshot) (ready []*exchange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for x := range k.waiting {
		if !s.asOf.Before(x.request.AsOf) {
			k.take(x)
			ready = append(ready, x)
		}
	}
	return ready
}

// again begins an exchange that the responder has been offered once more, under a new snapshot: its terms carry as_of, and
// the requester refuses what is older than it has seen. The responder drops the first session, which no requester ever gets
// the key of.
func (k *KDC) again(s *snapshot, x *exchange) {
	k.mu.Lock()
	k.move(x, phaseAsked)
	if !x.reissued {
		x.reissued = true
		k.reissued++
	}
	k.mu.Unlock()
	k.withdraw(x.to, x.session, control.Changed)
	x.key.Destroy()
	if time.Since(x.arrived) >= control.RequestTimeout { // nobody waits for it any more
		k.deny(x, control.Busy)
		return
	}
	k.begin(s, x)
}

// abandon ends the exchanges of a connection that has gone. Those it asked for need no answer; those it was to accept
// are denied. Nobody has one in hand meanwhile: KDC.gate is held for writing, or it is a new connection, which has none.
func (k *KDC) abandon(c *connection) {
	k.mu.Lock()
	c.gone = true
	asked, offered := slices.Collect(maps.Keys(c.requests)), slices.Collect(maps.Keys(c.offers))
	for _, x := range asked {
		if x.phase == phaseOffered {
			k.withdraw(x.to, x.session, control.Offline)
		}
		k.take(x)
	}
	for _, x := range offered {
		k.take(x)
	}
	k.mu.Unlock()
	for _, x := range asked {
		k.end(x, control.Offline)
	}
	for _, x := range offered {
		k.deny(x, control.Offline)
	}
}
