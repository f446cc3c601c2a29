package tunssm

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

const (
	supersededFor  = 30 * time.Second       // a session that was replaced still opens what is on the way
	revokedFor     = 60 * time.Second       // a revoked id is remembered, so that its late grant is refused
	firstProof     = 200 * time.Millisecond // between the probes of a provisional session at first, doubling
	lastProof      = time.Second            // and at most
	maxPerPeer     = 64                     // sessions with one peer; the oldest superseded one goes first
	maxRevoked     = 65536
	goodbyeTimeout = 500 * time.Millisecond
	maxOrder       = 1 << 62 // no honest responder gets there, and the orders after it must not run over
)

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

	out      *outbound // for what it releases and refuses
	timers   *timers
	holds    *holds
	denials  denials
	attempts map[goal]*attempt
	asking   map[netip.Addr]int // attempts for flows, by destination
	turns    turns
	steps    steps               // of acquisitions
	lives    steps               // of sessions that peers begin and end
	pending  map[uint64]*attempt // by request id
	lookups  map[uint64]*lookup  // likewise
	calls    uint64
	peers    map[string]*peer
	orders   orders
	revoked  map[control.SessionID]bool
	links    links
	report   report
	pings    pings
	eraser   *secret.Eraser

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

func (a *acquirer) forgetOrders() {
	a.orders.forget(time.Now(), a.peers)
	a.timers.after(ordersFor, a.forgetOrders)
}

// self is what this SSM says of itself in an exchange on a connection.
func (a *acquirer) self(conn *control.Conn) control.Self {
	return control.Self{Name: a.name, KeyID: a.links.live[conn], Boot: a.boot, AsOf: a.asOf}
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

// publish gives the loops the present state.
func (a *acquirer) publish() { a.table.Store(newTable(a.peers, a.asOf)) }

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
	a.life("session confirmed", "session", s.id, "peer", s.peer.name)
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
	a.life("destroyed a session", "session", s.id, "peer", p.name, "reason", why)
}

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
