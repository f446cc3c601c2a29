package tunssm

import (
	"math/rand/v2"
	"net/netip"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"time"
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

// await looks at a request every lateAfter. It turns from a silent KDC to the next; where there is none, the answer may
// only be late, and pings help it along.
func (a *acquirer) await(t *attempt) {
	left := control.HoldTimeout - time.Since(t.began)
	if left <= 0 || time.Since(t.asked) >= control.RequestTimeout && a.healthy(t.tried) != nil {
		a.another(t, t.link.whoseSilence())
		return
	}
	a.nudge(t.link)
	t.timeout = a.timers.after(min(lateAfter, left), func() { a.await(t) })
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
