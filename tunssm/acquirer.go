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
	name     string
	kdcs     []string // as saved
	keys     *keyring
	save     func(control.Identity) error
	boot     control.Boot
	endpoint netip.AddrPort // configured; zero for none
	reach    func() control.Reach
	told     control.Reach // what the KDCs have been told of it
	homed    time.Time     // when it last changed; zero where it has not
	software string
	now      func() time.Time                        // the wall clock, for a grant's until alone
	random   func(below time.Duration) time.Duration // for dialers, too

	out          *outbound // for what it releases and refuses
	timers       *timers
	holds        *holds
	denials      denials
	attempts     map[goal]*attempt
	asking       map[netip.Addr]int // attempts for flows, by destination
	turns        turns
	stepLines    logLimit            // of acquisitions
	sessionLines logLimit            // of sessions that peers begin and end
	pending      map[uint64]*attempt // by request id
	lookups      map[uint64]*lookup  // likewise
	calls        uint64
	peers        map[string]*peer
	orders       orders
	revoked      map[control.SessionID]bool
	links        links
	report       report
	pings        pings
	eraser       *secret.Eraser

	config    control.Config         // newest; AsOf zero before the first Welcome
	routed    []netip.Prefix         // as offered to the host last
	refused   map[netip.Prefix]error // by the host, of those
	subnets   []netip.Prefix         // as the host was told last to forward to
	cutOff    map[netip.Prefix]error // why it does not, of those
	forwarded time.Time              // when it was last asked to
	avoided   []netip.Addr           // what it was to keep out of the tunnel
	inside    map[string]netip.Addr  // peers last heard from inside an offered route
	measured  map[netip.AddrPort]measurement
	own       []netip.Addr // this host's addresses, as the outbound loop knows them
	looped    uint64       // frames of ours that had come back when they were counted last
	loopAt    time.Time    // when some had
	fault     error        // why the interface is not up
	asOf      control.AsOf
	began     time.Time
	contact   time.Time     // with a KDC that is not detached
	pastRx    TrafficStatus // of the sessions that are destroyed
	pastTx    TrafficStatus
}

// run is the loop: it ends, with every session destroyed and every KDC told, when ctx does.
func (a *acquirer) run(ctx context.Context) {
	defer close(a.ended)
	a.knowOwn()
	a.dialAll(ctx, a.kdcs)
	a.contact, a.told = time.Now(), a.reach()
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
				a.sendProbe(nil, s, packet.ProbeMessage{Kind: packet.Close}, s.target())
			}
			a.destroy(s, "the SSM stops")
		}
	}
	a.report.flush(a)
	a.pings.failAll(ErrEnded)
	a.links.shutdown(goodbyeTimeout)
}
