package tunssm

import (
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// peer is another SSM as this one knows it from the sessions it has had with it. The loops read the atomics; the rest
// belongs to the acquirer.
type peer struct {
	name     string
	endpoint atomic.Pointer[netip.AddrPort]   // where its newest opened frame came from
	sending  atomic.Pointer[session]          // what to send on; nil where there is none
	cut      atomic.Pointer[packet.Selectors] // what its sessions carried before they were narrowed; nil: never
	path     path

	boot     control.Boot // of its newest session
	prefixes []netip.Prefix
	asOf     control.AsOf // of the grant that gave the prefixes
	given    time.Time    // when
	sessions []*session   // the newest last
}

func newPeer(name string, mtu int) *peer {
	p := &peer{name: name}
	p.path.reset(mtu, netip.AddrPort{})
	return p
}

// choose is the session to send on: the last confirmed one of the peer's newest boot, else the last provisional one.
func (p *peer) choose() *session {
	var best *session
	for _, s := range p.sessions {
		if s.boot != p.boot || !s.mayCarry() {
			continue
		}
		switch {
		case best == nil:
			best = s
		case s.state != best.state:
			if s.state == confirmed {
				best = s
			}
		case best.before(s):
			best = s
		}
	}
	return best
}

// orders is the highest order had with each peer's present boot. It outlives the sessions: the other side may still have
// one that has ended here, and would go on sending on it if a new one were of lower order.
type orders map[string]highest

type highest struct {
	boot  control.Boot
	order uint64
	at    time.Time // when it was noted
}

// ordersFor is how long an order is remembered of a peer that there is no session with: far longer than one that has
// ended here goes on at the other side, which asks for another once nothing answers.
const ordersFor = 24 * time.Hour

// forget drops what is old, of peers without a session.
func (o orders) forget(now time.Time, peers map[string]*peer) {
	maps.DeleteFunc(o, func(name string, h highest) bool { return peers[name] == nil && now.Sub(h.at) >= ordersFor })
}

// next is the order of the next session with that boot of the peer.
func (o orders) next(peer string, boot control.Boot) uint64 {
	if h := o[peer]; h.boot == boot {
		return h.order + 1
	}
	return 1
}

func (o orders) note(s *session) {
	h := o[s.peer.name]
	if h.boot != s.boot {
		h = highest{boot: s.boot}
	}
	h.order, h.at = max(h.order, s.order), s.since
	o[s.peer.name] = h
}

func (a *acquirer) forgetOrders() {
	a.orders.forget(time.Now(), a.peers)
	a.timers.after(ordersFor, a.forgetOrders)
}
