package kdc

import (
	"golang.org/x/time/rate"

	"ssmnet/packet/control"
)

// What one enrolled peer may ask of the KDC in a second, and at once. An SSM under load stays far below; one that has
// been taken over gets no more than this of what others share.
const (
	requestRate, requestBurst = 5000, 10000 // KeyRequests; those above are denied as busy, without an audit event each
	reportRate, reportBurst   = 5000, 10000 // SessionReports; none can be left out, so those above end the connection
	askRate, askBurst         = 200, 1000   // Lookup, Endpoint, Ping and the rest together; those above are ignored

	visitRate, visitBurst   = 1, 30  // connections of one peer; those above are refused as busy
	redeemRate, redeemBurst = 1, 5   // redemptions of one token; likewise
	warnRate, warnBurst     = 10, 50 // warnings that peers can cause, in the log
)

// limits are the buckets of one connection.
type limits struct{ requests, reports, asks *rate.Limiter }

func newLimits() limits {
	return limits{
		rate.NewLimiter(requestRate, requestBurst), rate.NewLimiter(reportRate, reportBurst),
		rate.NewLimiter(askRate, askBurst),
	}
}

// excessive says that a message comes above its limit, and answers it where it must be.
func (k *KDC) excessive(c *connection, e control.Envelope) bool {
	switch m := e.Message.(type) {
	case *control.KeyRequest:
		if c.limits.requests.Allow() {
			return false
		}
		k.counts.requests.Add(1)
		k.counts.denials.Add(1)
		c.conn.Send(e.ID, &control.KeyDenial{Na: m.Na, Reason: control.Busy})
		return true
	case *control.SessionReport:
		if c.limits.reports.Allow() {
			return false
		}
		k.warn("too many reports of sessions", "peer", c.name, "source", c.source)
		c.hangUp()
		return true
	case *control.KeyAccept, *control.KeyDenial, *control.Pong:
		return false // they answer what the KDC has asked, as acks do
	}
	return !isAck(e.Message) && !c.limits.asks.Allow()
}

// warn logs what a peer can make happen as often as it likes.
func (k *KDC) warn(message string, args ...any) {
	if k.warnings.Allow() {
		k.log.Warn(message, args...)
	}
}

// mayRedeem says whether a token may be redeemed now: each redemption is a change to the store.
func (k *KDC) mayRedeem(token control.KeyID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.redemptions[token]
	if l == nil {
		for id, other := range k.redemptions {
			if other.Tokens() >= redeemBurst { // it has rested so long that a fresh one is the same
				delete(k.redemptions, id)
			}
		}
		l = rate.NewLimiter(redeemRate, redeemBurst)
		k.redemptions[token] = l
	}
	return l.Allow()
}
