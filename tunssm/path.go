package tunssm

// The MTU of the way to each peer. An inner packet is at most path.limit bytes long; a longer one is answered as a router
// would, or cut into fragments where it allows it (outbound.go, fit). The limit comes from two sources:
//
//	the kernel   An interface, a route or a router (ICMP) says what the path carries. The kernel then refuses longer frames
//	             (EMSGSIZE), and learn lowers the limit.
//	echoes       A path that drops what is too long without a word, as where ICMP is filtered, shows it by the echoes of
//	             that length that are not answered while short ones are (RFC 8899). What has passed is sure.
//
// The search for it (search.go) begins when a packet wants more than is sure, so that quiet sessions cost nothing. The
// acquirer owns all this; the loops read limit, sure and pieces.

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"ssmnet/packet"
)

const (
	leastMTU    = 1280                     // inner bytes; every interface of ours carries that
	surely      = leastMTU - 80            // inner bytes whose frame every path carries that carries IPv6
	frameLimit  = surely + packet.Overhead // bytes of a frame that goes in one piece where longer ones do not
	noMTU       = math.MaxInt32
	verifyAfter = 5 * time.Second // of a search, while long packets are sent
)

// path is what the way to a peer carries.
type path struct {
	limit   atomic.Int32 // longest inner packet
	sure    atomic.Int32 // at most limit: inner packets of this length have passed, or need not to be tried
	pieces  atomic.Bool  // frames of longer ones than surely go in fragments
	wanted  atomic.Bool  // the acquirer was told that more is wanted than is sure
	refused atomic.Bool  // the acquirer was told that the kernel has refused a frame

	// The acquirer's.
	at      netip.AddrPort // what all this is about
	known   int            // longest inner packet by what the kernel knows
	search  *search        // nil: none is under way
	taught  bool           // the kernel has what it knows from us
	checked time.Time      // end of the last one
	raise   time.Time      // when more than limit may be tried again
}

// reset makes it a fresh path to at.
func (w *path) reset(mtu int, at netip.AddrPort) {
	w.sure.Store(int32(min(mtu, surely)))
	w.limit.Store(int32(mtu))
	w.pieces.Store(false)
	w.wanted.Store(false)
	w.at, w.known, w.taught, w.checked, w.raise = at, noMTU, false, time.Time{}, time.Time{}
}

// set limits packets to length, or to leastMTU and in fragments where that is more.
func (w *path) set(length int) {
	limit := int32(max(length, leastMTU))
	w.sure.Store(min(w.sure.Load(), limit))
	w.limit.Store(limit)
	w.pieces.Store(length < leastMTU)
}

// outer is what a frame to the endpoint has in front of it and around the inner packet.
func outer(to netip.AddrPort) int {
	const udp, ipv4, ipv6 = 8, 20, 40
	if to.Addr().Unmap().Is4() {
		return ipv4 + udp + packet.Overhead
	}
	return ipv6 + udp + packet.Overhead
}

// wantMore tells the acquirer that a packet longer than is sure is to be sent; refusedFrame that the kernel knows better.
// Neither waits: it comes again with the next packet.
func (d *dataPath) wantMore(p *peer) {
	if p.path.wanted.CompareAndSwap(false, true) && !d.atOnce(func(a *acquirer) { a.explore(p) }) {
		p.path.wanted.Store(false)
	}
}

func (d *dataPath) refusedFrame(p *peer) {
	if p.path.refused.CompareAndSwap(false, true) && !d.atOnce(func(a *acquirer) { a.learn(p) }) {
		p.path.refused.Store(false)
	}
}

// inPieces says whether a frame of this length goes to the peer in fragments.
func (w *path) inPieces(length int) bool {
	return length > frameLimit && (w.pieces.Load() || length-packet.Overhead > int(w.limit.Load()))
}

// tendPath is done every tendInterval.
func (a *acquirer) tendPath(p *peer) {
	w := &p.path
	w.refused.Store(false)
	switch {
	case a.otherPath(p):
	case w.search != nil:
	case w.checked.IsZero() && w.wanted.Load(), w.taught && w.wanted.Load() && a.learn(p): // which the kernel forgets
		a.explore(p)
	case time.Since(w.checked) >= verifyAfter:
		w.sure.Store(min(w.limit.Load(), surely))
		w.wanted.Store(false)
	}
}

// otherPath begins anew where the peer has come to be elsewhere.
func (a *acquirer) otherPath(p *peer) bool {
	w, e := &p.path, p.endpoint.Load()
	if e == nil || *e == w.at {
		return false
	}
	a.endSearch(w)
	w.reset(a.host.MTU, *e)
	if n, ok := a.measured[*e]; ok && time.Now().Before(n.until) {
		w.set(n.length)
		w.raise = n.until
	}
	return true
}

// learn takes in what the kernel knows of the path. It says whether that is news.
func (a *acquirer) learn(p *peer) (news bool) {
	a.otherPath(p)
	w := &p.path
	known := noMTU
	if _, _, mtu, err := a.host.Route.Way(w.at.Addr()); err == nil {
		known = mtu - outer(w.at)
	}
	if known == w.known {
		return false
	}
	w.known, w.raise = known, time.Time{}
	if known < int(w.limit.Load()) {
		w.set(known)
		a.log.Info("path MTU lowered", "peer", p.name, "endpoint", w.at, "mtu", w.limit.Load(), "fragments", w.pieces.Load())
	}
	if w.search != nil {
		a.endSearch(w)
		a.explore(p)
	}
	return true
}

// teach has the kernel fragment what it sends to an IPv6 address, as no router can, although no router has told it to:
// we tell it in the words of one, by a packet that comes out of the tunnel. It keeps that for ten minutes
// (net.ipv6.route.mtu_expires).
func (a *acquirer) teach(to netip.AddrPort) {
	src, err := a.host.Route.Source(to.Addr())
	if err != nil {
		return
	}
	from := netip.AddrPortFrom(src, a.host.UDP.LocalPort())
	frame := packet.AppendTooBigFor(make([]byte, packet.VirtioLen), leastMTU, from, to)
	a.writeFrame([][]byte{frame})
}
