package kdc

import (
	"maps"
	"slices"
	"time"

	"ssmnet/packet/control"
)

// What surrounds the five steps: exchanges in flight, their deadlines, and the ways in which they end without a grant.

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

// pend makes an exchange wait for its responder. k.mu is held.
func (k *KDC) pend(x *exchange) {
	k.pending[x.session] = x
	x.to.offers[x] = struct{}{}
	session := x.session
	x.timer = k.after(control.AcceptTimeout, func() { k.unanswered(x, session) })
}

// unpend takes it out again. k.mu is held.
func (k *KDC) unpend(x *exchange) {
	if x.timer != nil {
		x.timer.stop()
		x.timer = nil
	}
	delete(k.waiting, x)
	if k.pending[x.session] == x {
		delete(k.pending, x.session)
		delete(x.to.offers, x)
	}
}

// finish takes an exchange out for good, false where that has been done before. k.mu is held.
func (k *KDC) finish(x *exchange) bool {
	if x.done {
		return false
	}
	x.done = true
	if x.reissued {
		k.reissued--
	}
	k.unpend(x)
	delete(x.from.requests, x)
	return true
}

// answered gives the exchange that the responder's accept or denial is for, no longer waiting; nil where there is none,
// and foreign where it waits for somebody else.
func (k *KDC) answered(c *connection, id control.SessionID) (x *exchange, foreign bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	x = k.pending[id]
	if x == nil || x.to != c {
		return nil, x != nil
	}
	k.unpend(x)
	return x, false
}

// refused takes the responder's KeyDenial, which names na alone. Offers that wait for one responder are few.
func (k *KDC) refused(c *connection, m *control.KeyDenial) {
	var found *exchange
	k.mu.Lock()
	for x := range c.offers {
		if x.request.Na == m.Na {
			found = x
			k.unpend(x)
			break
		}
	}
	k.mu.Unlock()
	if found == nil {
		return
	}
	reason := m.Reason
	if reason == 0 {
		reason = control.Refused
	}
	k.deny(found, reason)
}

// deny answers the requester with a reason and records it.
func (k *KDC) deny(x *exchange, reason control.Reason) {
	k.mu.Lock()
	first := k.finish(x)
	k.mu.Unlock()
	if !first {
		return
	}
	if err := x.from.conn.Send(x.call, &control.KeyDenial{Na: x.request.Na, Reason: reason}); err != nil {
		k.log.Debug("denial not sent", "step", 3, "requester", x.from.name, "error", err)
	}
	k.record(x, reason)
}

// withdraw makes a responder drop what it may have installed for an offer that comes to nothing. No receipt is due:
// the requester never had the key.
func (k *KDC) withdraw(c *connection, id control.SessionID, reason control.Reason) {
	c.conn.Send(0, &control.Revoke{
		Sessions: []control.SessionID{id}, Reason: reason, AsOf: k.snapshot.Load().asOf,
	})
}

// unanswered ends an exchange whose responder has not accepted in time, and asks that connection whether it lives.
func (k *KDC) unanswered(x *exchange, session control.SessionID) {
	k.gate.RLock()
	defer k.gate.RUnlock()
	k.mu.Lock()
	if k.pending[session] != x {
		k.mu.Unlock()
		return
	}
	k.unpend(x)
	to := x.to
	k.mu.Unlock()
	k.withdraw(to, session, control.Offline)
	to.conn.Send(0, &control.Ping{})
	k.deny(x, control.Offline)
}

// await lets a request that has seen a newer state than ours wait for our watch to catch up.
func (k *KDC) await(x *exchange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting[x] = struct{}{}
	x.timer = k.after(behindTimeout, func() {
		k.gate.RLock()
		defer k.gate.RUnlock()
		k.mu.Lock()
		_, still := k.waiting[x]
		k.unpend(x)
		k.mu.Unlock()
		if still {
			k.deny(x, control.Behind)
		}
	})
}

// behindTimeout is how long a request waits for the state that it was made under.
const behindTimeout = time.Second

// caughtUp takes the requests that need not wait any longer. k.mu is held.
func (k *KDC) caughtUp(s *snapshot) (ready []*exchange) {
	for x := range k.waiting {
		if !s.asOf.Before(x.request.AsOf) {
			k.unpend(x)
			ready = append(ready, x)
		}
	}
	return ready
}

// reissue begins an exchange again under a new snapshot: its terms carry as_of, and the requester refuses what is older
// than it has seen. The responder drops the first session, which no requester ever gets the key of.
func (k *KDC) reissue(s *snapshot, x *exchange) {
	k.mu.Lock()
	k.unpend(x)
	if !x.reissued {
		x.reissued = true
		k.reissued++
	}
	k.mu.Unlock()
	k.withdraw(x.to, x.session, control.Changed)
	x.key.Destroy() // nobody else has the exchange: its requester's connection leaves under the gate
	waits := time.Since(x.arrived) < control.RequestTimeout
	if !waits {
		k.deny(x, control.Busy)
		return
	}
	k.step3(s, x)
}

// abandon ends the exchanges of a connection that has gone. Those it asked for need no answer; those it was to accept
// are denied. KDC.gate is held for writing: nobody else touches an exchange meanwhile.
func (k *KDC) abandon(c *connection) {
	k.mu.Lock()
	c.gone = true
	asked, offered := slices.Collect(maps.Keys(c.requests)), slices.Collect(maps.Keys(c.offers))
	k.mu.Unlock()
	for _, x := range asked {
		k.mu.Lock()
		waits := k.pending[x.session] == x
		k.finish(x)
		k.mu.Unlock()
		if waits {
			k.withdraw(x.to, x.session, control.Offline)
		}
		k.record(x, control.Offline)
	}
	for _, x := range offered {
		k.deny(x, control.Offline)
	}
}
