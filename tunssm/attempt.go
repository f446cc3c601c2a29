package tunssm

// What is asked of the KDCs: an attempt is begun in step 1, asks one KDC after the other in step 2, and ends with a session
// in step 3 or a no in step 4 (acquire.go).

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// requests are what is asked of the KDCs.
type requests struct {
	attempts map[goal]*attempt
	asking   map[netip.Addr]int  // attempts for flows, by destination
	pending  map[uint64]*attempt // by request id
	lookups  map[uint64]*lookup  // likewise
	calls    uint64              // request ids that were given
}

func newRequests() requests {
	return requests{
		attempts: map[goal]*attempt{}, asking: map[netip.Addr]int{}, pending: map[uint64]*attempt{},
		lookups: map[uint64]*lookup{},
	}
}

// nextCall is the id of another request.
func (r *requests) nextCall() uint64 {
	r.calls++
	return r.calls
}

// goal is what is being acquired: the session for a service at an inner destination or, by name, for a peer.
type goal struct {
	service service
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
	replaces  *session // for tend.go: the session that goes on meanwhile
	stale     int      // grants refused as older than what we have seen
	timeout   *timer
	began     time.Time // of step 1
	asked     time.Time // of the request under way
}

// maxStale is how often one attempt asks a KDC again whose grant was overtaken by a change of policy.
const maxStale = 3

// maxAsking is how many services of one destination are asked for at once, after the first was denied. Until then
// one request serves them all: a grant has every selector of the pair.
const maxAsking = 4

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

// another ends the request at this KDC and asks the next; when all have failed, or time is up, reason is final.
func (a *acquirer) another(t *attempt, reason control.Reason) {
	a.endRequest(t)
	if a.healthy(t.tried) == nil || time.Since(t.began) >= control.HoldTimeout {
		a.step4Refuse(t, reason)
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

// watchRequest looks at a request every lateAfter. It turns from a silent KDC to the next; where there is none, the answer may
// only be late, and pings help it along.
func (a *acquirer) watchRequest(t *attempt) {
	left := control.HoldTimeout - time.Since(t.began)
	if left <= 0 || time.Since(t.asked) >= control.RequestTimeout && a.healthy(t.tried) != nil {
		a.another(t, t.link.whoseSilence())
		return
	}
	a.nudge(t.link)
	t.timeout = a.timers.after(min(lateAfter, left), func() { a.watchRequest(t) })
}

// askFor asks for what is held for dst, the oldest first, until so many requests for it are under way.
func (a *acquirer) askFor(dst netip.Addr, limit int) {
	for a.asking[dst] < limit {
		flow, ok := a.holds.next(dst, func(f packet.Flow) bool { return a.attempts[goal{service: serviceOf(f)}] == nil })
		if !ok {
			return
		}
		a.step2Request(&attempt{goal: goal{service: serviceOf(flow)}, flow: &flow, began: time.Now()})
	}
}

// reserveSPI picks one that no session and no attempt has.
func (a *acquirer) reserveSPI() packet.SPI {
	sessions := a.table.Load().sessions
	for {
		spi := packet.SPI(rand.Uint32())
		taken := sessions[spi] != nil
		for _, t := range a.pending {
			taken = taken || t.spi == spi
		}
		if spi != 0 && !taken {
			return spi
		}
	}
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

// decline tells the KDCs that a granted session was not installed. They would take it for one of ours.
func (a *acquirer) decline(g *control.KeyGrant) {
	if a.sessionByID(g.Session) == nil {
		a.report.declined(g.Session)
	}
}

// endResolved ends the attempts that s is the answer to besides: for the same peer by another of its addresses or services.
func (a *acquirer) endResolved(s *session) {
	for _, t := range a.attempts {
		if t.flow != nil && a.resolves(s, *t.flow) {
			a.endRequest(t)
			a.end(t)
		}
	}
}
