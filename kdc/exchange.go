package kdc

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/policy"
)

// Step 3 of the textbook's four (1 hold, 2 request, 3 decide and deliver, 4 release; packet/control, "The four steps"), which
// is what step=3 in a log line means. It has five parts, and the functions follow in their order:
//
//	A's SSM                       KDC                                    B's SSM
//	KeyRequest ---------------->  1. identify  who asks, and who has the destination
//	                              2. decide    does policy permit it, under which terms
//	                              3. issue     session id and K
//	                                           KeyOffer -------------->  installs
//	                                           <-------------- KeyAccept
//	                              4. deliver   decide again, and grant
//	installs  <------------------ KeyGrant
//	                              5. record    audit the outcome, forget K
//
// No goroutine waits for an exchange: between issue and deliver it is an entry in KDC.pending with a timer (pending.go).
// Each step runs under KDC.gate, so that one message is handled under one snapshot.
const (
	maxRequests = 256   // exchanges in flight that one connection asked for
	maxOffers   = 1024  // exchanges in flight that wait for one responder
	maxPending  = 65536 // exchanges in flight in all
)

// exchange is one KeyRequest on its way to its KeyGrant or KeyDenial.
type exchange struct {
	request *control.KeyRequest
	call    uint64 // request id of the KeyRequest, which the answer repeats
	from    *connection
	arrived time.Time

	requester, responder *peer   // set by identify
	verdict              verdict // set by decide
	why                  string  // likewise: what an operator is told instead of the denial's reason

	session  control.SessionID // set by issue, like all below
	offered  time.Time         // when it was
	to       *connection
	a, b     control.Party
	suite    packet.Suite
	key      secret.Key // K
	reissued bool       // under KDC.mu: a new snapshot made it begin again

	phase phase  // under KDC.mu, like the timer: see move
	timer *timer // of the phases in which nobody has it in hand
}

// verdict is a yes: the grant that permits, and the terms.
type verdict struct {
	grant string // id in the policy; empty where a peer was asked for by name
	terms control.Terms
}

// same says whether two verdicts lay down the same for the session.
func (v verdict) same(o verdict) bool {
	a, b := v.terms, o.terms
	return a.AsOf == b.AsOf && a.Until == b.Until && a.RekeyMillis == b.RekeyMillis && a.IdleMillis == b.IdleMillis &&
		a.GraceMillis == b.GraceMillis && slices.Equal(a.Selectors, b.Selectors)
}

// onKeyRequest takes a KeyRequest.
func (k *KDC) onKeyRequest(c *connection, call uint64, r *control.KeyRequest) {
	x := &exchange{request: r, call: call, from: c, arrived: time.Now()}
	s := k.snapshot.Load()
	switch {
	case !k.enter(x):
		k.deny(x, control.Busy)
	case k.detached():
		k.deny(x, control.Detached)
	case s.asOf.Before(r.AsOf):
		k.await(x)
	default:
		k.begin(s, x)
	}
}

// begin takes an exchange through the first three steps, or denies it: a fresh request, one that waited for a snapshot,
// and one that a new snapshot makes begin again.
func (k *KDC) begin(s *snapshot, x *exchange) {
	reason := k.identify(s, x)
	if reason == 0 {
		x.verdict, reason = k.decide(s, x)
	}
	if reason == 0 {
		reason = k.issue(x)
	}
	if reason != 0 {
		k.deny(x, reason)
	}
}

// identify finds the two peers. The requester is whom its connection's key says, and its flow begins at what it owns.
func (k *KDC) identify(s *snapshot, x *exchange) control.Reason {
	r := x.request
	x.requester, x.responder = s.peers[x.from.name], nil
	switch {
	case r.SPI == 0 || len(r.Pub) != control.PubLen:
		return control.Malformed
	case x.requester == nil:
		return control.Denied // removed a moment ago
	case r.Flow == nil:
		x.responder = s.peers[r.Peer]
	case s.owner(r.Flow.Src) != x.requester:
		return control.Denied
	default:
		x.responder = s.owner(r.Flow.Dst)
	}
	switch {
	case x.responder == nil || r.Peer != "" && r.Peer != x.responder.name:
		return control.Unknown
	case x.responder == x.requester:
		return control.Malformed
	}
	return 0
}

// decide asks the policy. It is asked again before each grant, and on every new snapshot.
func (k *KDC) decide(s *snapshot, x *exchange) (verdict, control.Reason) {
	if k.audit.failing() != nil {
		return verdict{}, control.Unavailable
	}
	if k.detached() {
		return verdict{}, control.Detached
	}
	x.why = ""
	var d policy.Decision
	if f := x.request.Flow; f != nil {
		d = s.compiled.Decide(x.requester.name, x.responder.name, *f, k.now())
	} else {
		d = s.compiled.DecidePair(x.requester.name, x.responder.name, k.now())
	}
	if !d.Permitted {
		if d.Reason == policy.TooManySelectors {
			x.why = string(d.Reason)
			k.warn("denied: the grants of a pair come to more selectors than are carried: write fewer, wider ones",
				"step", 3, "requester", x.requester.name, "responder", x.responder.name, "most", policy.MaxSelectors)
		}
		return verdict{}, control.Denied
	}
	session := s.compiled.Session()
	v := verdict{d.Grant, control.Terms{
		Selectors: d.Pair.Selectors, RekeyMillis: millis(session.Rekey), IdleMillis: millis(session.Idle),
		GraceMillis: millis(session.Grace), AsOf: s.asOf,
	}}
	if !d.Pair.Until.IsZero() {
		v.terms.Until = d.Pair.Until.Unix()
	}
	return v, 0
}

func millis(d time.Duration) uint32 { return uint32(d.Milliseconds()) }

// issue makes the session's id and K and offers it to the responder.
func (k *KDC) issue(x *exchange) control.Reason {
	key := secret.NewKey()
	k.mu.Lock()
	to := k.connected(x.responder.name)
	if to == nil || len(to.offers) >= maxOffers {
		k.mu.Unlock()
		key.Destroy()
		if to == nil {
			return control.Offline
		}
		return control.Busy
	}
	x.session, x.key, x.to, x.offered = control.NewSessionID(), key, to, time.Now()
	x.a, x.b = party(x.requester, x.from), party(x.responder, to)
	x.a.SPI = x.request.SPI
	x.suite = packet.ChaCha20Poly1305
	if x.from.aes && to.aes {
		x.suite = packet.AES256GCM
	}
	offer := &control.KeyOffer{
		Session: x.session, A: x.a, B: x.b, Na: x.request.Na, K: bytes.Clone(key.Bytes()), Pub: x.request.Pub,
		Suite: x.suite, Terms: x.verdict.terms, Candidates: x.from.candidates,
	}
	k.move(x, phaseOffered)
	k.mu.Unlock()
	err := to.conn.Send(0, offer)
	clear(offer.K)
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.take(x) { // otherwise the end of that connection has come first
			return control.Offline
		}
		return 0
	}
	k.log.Debug("offered", "step", 3, "session", offer.Session, "requester", offer.A.Name, "responder", offer.B.Name)
	return 0
}

func party(p *peer, c *connection) control.Party {
	return control.Party{Name: p.name, KeyID: c.keyID, Boot: c.boot, Prefixes: p.prefixes}
}

// onKeyAccept takes a KeyAccept. It checks session id, A and B (rule 2), and that it comes from where the offer went.
func (k *KDC) onKeyAccept(c *connection, m *control.KeyAccept) {
	x, foreign := k.answered(c, m.Session)
	switch {
	case foreign:
		k.audit.add(event{Event: "accept.foreign", Peer: c.name, Session: m.Session, Source: c.source.String()})
		k.warn("accept of a session offered to another peer", "step", 3, "peer", c.name, "session", m.Session)
	case x == nil:
		k.withdraw(c, m.Session, control.Offline) // too late, and what it installed goes again
	case m.A != x.a.Name || m.B != x.b.Name || len(m.Enc) != control.EncLen || m.SPI == 0 || m.Order == 0:
		k.withdraw(c, m.Session, control.Malformed)
		k.deny(x, control.Refused)
	default:
		if time.Since(x.offered) >= slowAccept {
			c.conn.Send(0, &control.Ping{})
		}
		k.deliver(x, m)
	}
}

// slowAccept is how late an accept shows that the responder's channel is held up. A ping tells the responder, whose SSM
// then sees to the channel; one before the accept would only queue behind what is lost.
const slowAccept = 250 * time.Millisecond

// deliver decides again and grants. The session is live before the requester has the key, so that whatever changes
// from now on reaches it.
func (k *KDC) deliver(x *exchange, m *control.KeyAccept) {
	s := k.snapshot.Load()
	v, reason := k.decide(s, x)
	if reason == 0 && !v.same(x.verdict) {
		k.again(s, x)
		return
	}
	k.mu.Lock()
	if reason == 0 && !k.addSession(k.granted(x)) {
		reason = control.Busy
	}
	if reason == 0 {
		k.move(x, phaseGranted)
	}
	candidates := x.to.candidates
	k.mu.Unlock()
	if reason != 0 {
		k.withdraw(x.to, x.session, reason)
		k.deny(x, reason)
		return
	}
	x.b.SPI = m.SPI
	grant := &control.KeyGrant{
		Session: x.session, A: x.a, B: x.b, Na: x.request.Na, K: bytes.Clone(x.key.Bytes()), Enc: m.Enc,
		Suite: x.suite, Order: m.Order, Terms: x.verdict.terms, Candidates: candidates,
	}
	if err := x.from.conn.Send(x.call, grant); err != nil {
		k.log.Debug("grant not sent", "step", 3, "session", x.session, "requester", x.a.Name, "error", err)
	}
	clear(grant.K)
	k.record(x, 0)
}

// granted is the session that an exchange has made.
func (k *KDC) granted(x *exchange) *session {
	terms := x.verdict.terms
	return &session{
		id: x.session, sides: [2]side{{x.a.Name, x.a.Boot, holds}, {x.b.Name, x.b.Boot, holds}}, by: x.a.Name,
		since: k.now(), began: time.Now(), asOf: terms.AsOf, digest: control.DigestSelectors(terms.Selectors),
		selectors: terms.Selectors, suite: x.suite, grant: x.verdict.grant,
	}
}

// record audits the outcome, zero for a grant, and forgets K.
func (k *KDC) record(x *exchange, reason control.Reason) {
	x.key.Destroy()
	e := event{Requester: x.from.name, Responder: x.request.Peer, Grant: x.verdict.grant}
	if x.responder != nil {
		e.Responder = x.responder.name
	}
	if x.request.Flow != nil {
		e.Flow = x.request.Flow.String()
	}
	if reason == 0 {
		k.counts.grants.Add(1)
		e.Event, e.Session, e.AsOf = "grant", x.session, x.verdict.terms.AsOf
		k.audit.add(e)
		k.log.Debug("granted", "step", 3, "session", x.session, "requester", e.Requester, "responder", e.Responder)
		return
	}
	k.counts.denials.Add(1)
	e.Event, e.Reason, e.AsOf = "denial", cmp.Or(x.why, reason.String()), k.snapshot.Load().asOf
	k.auditDenial(e, sameDenial(e, x.request.Flow))
	k.log.Debug("denied", "step", 3, "requester", e.Requester, "responder", e.Responder, "reason", e.Reason)
}
