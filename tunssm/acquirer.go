package tunssm

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// goodbyeTimeout is how long what is said at the end may take to leave.
const goodbyeTimeout = 500 * time.Millisecond

// acquirer owns all that changes, on one goroutine: what the fields below point to is touched by no other.
type acquirer struct {
	*dataPath
	credentials // rotate.go
	whereabouts // rehome.go
	requests    // attempt.go
	network     // configure.go
	routing     // reroute.go
	forwarding  // forward.go
	loops       // loop.go
	past        // status.go
	logLines    // loglimit.go

	boot     control.Boot
	software string
	now      func() time.Time                        // the wall clock, for a grant's until alone
	random   func(below time.Duration) time.Duration // for dialers, too

	timers   *timers
	out      *carrier // for what it releases and refuses
	holds    *holds
	turns    turns
	denials  denials
	peers    map[string]*peer
	measured map[netip.AddrPort]measurement // of endpoints (search.go)
	orders   orders
	revoked  map[control.SessionID]bool
	links    links
	report   report
	pings    pings
	eraser   *secret.Eraser
}

// run is the loop: it ends, with every session destroyed and every KDC told, when ctx does.
func (a *acquirer) run(ctx context.Context) {
	defer close(a.ended)
	a.knowOwn()
	a.dialAll(ctx, a.kdcs)
	a.links.contact, a.told = time.Now(), a.reach()
	a.timers.after(tendInterval, a.tendAll)
	a.timers.after(ordersFor, a.forgetOrders)
	for {
		select {
		case <-ctx.Done():
			a.goodbye()
			return
		case event := <-a.events:
			event(a)
		case frame := <-a.toHold:
			a.step1Hold(frame)
		case <-a.timers.next.C:
			a.timers.expire()
		}
	}
}

// self is what this SSM says of itself in an exchange on a connection.
func (a *acquirer) self(conn *control.Conn) control.Self {
	return control.Self{Name: a.name, KeyID: a.links.live[conn], Boot: a.boot, AsOf: a.asOf}
}

// publish gives the loops the present state.
func (a *acquirer) publish() { a.table.Store(newTable(a.peers, a.asOf)) }

// goodbye ends everything: peers hear a close, KDCs the end of each session.
func (a *acquirer) goodbye() {
	for _, p := range a.peers {
		for _, s := range slices.Clone(p.sessions) {
			if s == p.sending.Load() {
				a.sendProbe(s, packet.ProbeMessage{Kind: packet.Close}, s.target())
			}
			a.destroy(s, "the SSM stops")
		}
	}
	a.report.flush(a)
	a.pings.failAll(ErrEnded)
	a.links.shutdown(goodbyeTimeout)
}
