package tunssm

// The search for the longest packet that a path carries, by echoes as long, in the manner of RFC 8899:
//
//	a fresh path             the limit is the interface's MTU and packets of that length go, while echoes as long prove it
//	echoes unanswered        the limit falls to leastMTU at once, and rises as the search goes on between the two
//	leastMTU unanswered too  frames go in fragments: the interface must carry packets of leastMTU (RFC 8200, section 5)
//	after verifyAfter        nothing is sure any more: the limit is tried again
//	after raiseAfter         so is what the path might carry by now; sooner, after wholeAfter, where frames go in fragments,
//	                         as that costs most and a full queue, which short echoes pass, looks the same
//
// With each echo goes a short one. That the long one is lost means something only where the short one is answered: a peer
// that is away has no MTU. Only the echo is long, so each direction of a path is searched for itself.

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"ssmnet/packet"
)

const (
	raiseAfter   = 10 * time.Minute // RFC 8899, section 5.1.1
	wholeAfter   = time.Minute
	roundEvery   = 100 * time.Millisecond
	sizeRounds   = 6  // with the short echo answered and the long one not: by chance 1 in 60 where 30% are lost
	maxRounds    = 50 // of one size: whoever has not answered until then is away
	maxMeasured  = 1024
	searchGrain  = 8 // bytes
	shortestEcho = 0 // of the sizes: the message alone
)

// search looks for the longest inner packet that passes.
type search struct {
	low, high int // what has passed (0: nothing yet), and the most that may
	size      int // being tried
	rounds    int // of it
	answered  int // of those
	least     bool
	sent      map[uint32]int // echoes under way: their sizes
	timer     *timer
}

// measurement is what a search has shown of an endpoint, until it may be tried again.
type measurement struct {
	length int
	until  time.Time
}

// explore begins a search where one is due.
func (a *acquirer) explore(p *peer) {
	w, s := &p.path, p.sending.Load()
	if w.search != nil || s == nil || s.state != confirmed || p.endpoint.Load() == nil {
		return // tendPath looks again
	}
	a.learn(p)
	w.wanted.Store(true)
	limit, most := int(w.limit.Load()), min(a.host.MTU, w.known)
	again := !time.Now().Before(w.raise)
	switch {
	case w.known < leastMTU, w.pieces.Load() && !again:
		a.inPieces(p)
		return
	case w.pieces.Load():
		w.search = &search{high: most, size: most}
	case most > limit && again:
		w.search = &search{low: limit, high: most, size: most}
	default:
		w.search = &search{high: limit, size: limit}
	}
	w.search.sent = map[uint32]int{}
	a.pings.searches++
	a.pings.count()
	a.try(p, w.search)
}

// endSearch stops one.
func (a *acquirer) endSearch(w *path) {
	if w.search == nil {
		return
	}
	a.timers.cancel(w.search.timer)
	w.search = nil
	a.pings.searches--
	a.pings.count()
}

// carries ends the search: packets of that length have passed.
func (a *acquirer) carries(p *peer, length int) {
	w := &p.path
	w.taught = false
	a.endSearch(w)
	if was := int(w.limit.Load()); length != was {
		a.log.Info("path MTU found", "peer", p.name, "endpoint", w.at, "mtu", length, "before", was)
	}
	a.conclude(w, length)
	w.sure.Store(int32(length))
}

// conclude limits the path to what the search has shown, and remembers it for when the peer comes back there.
func (a *acquirer) conclude(w *path, length int) {
	w.set(length)
	w.checked = time.Now()
	again := w.checked.Add(raiseAfter)
	if length < leastMTU {
		again = w.checked.Add(wholeAfter)
	}
	if w.raise.Before(w.checked) || again.Before(w.raise) {
		w.raise = again
	}
	if length >= a.host.MTU {
		delete(a.measured, w.at)
		return
	}
	maps.DeleteFunc(a.measured, func(_ netip.AddrPort, n measurement) bool { return n.until.Before(w.checked) })
	if len(a.measured) < maxMeasured {
		a.measured[w.at] = measurement{length, w.raise}
	}
}

// inPieces: not even packets of leastMTU pass.
func (a *acquirer) inPieces(p *peer) {
	w := &p.path
	a.endSearch(w)
	if !w.pieces.Load() {
		a.log.Info("path MTU too small: frames go in fragments", "peer", p.name, "endpoint", w.at)
	}
	a.conclude(w, surely)
	w.sure.Store(leastMTU)
	if w.at.Addr().Is6() && (w.taught || w.known >= leastMTU) {
		w.taught = true
		a.teach(w.at)
	}
}

// try sends a round of echoes: of the size in question, of leastMTU where there is nothing yet to fall back on, and a
// short one.
func (a *acquirer) try(p *peer, q *search) {
	s, w := p.sending.Load(), &p.path
	if w.search != q {
		return
	}
	if s == nil || s.state != confirmed || q.rounds >= maxRounds {
		a.endSearch(w)
		w.checked = time.Now()
		return
	}
	q.rounds++
	if !a.echoOf(p, s, q, q.size) {
		return
	}
	if q.low == 0 && q.size > leastMTU && !a.echoOf(p, s, q, leastMTU) {
		return
	}
	if a.echoOf(p, s, q, shortestEcho) {
		q.timer = a.timers.after(roundEvery, func() { a.try(p, q) })
	}
}

// echoOf sends one echo as long as an inner packet of that size, in one piece. Where the kernel knows that it does not
// fit it takes that in and returns false: the search has begun anew, goes on with another size, or has ended.
func (a *acquirer) echoOf(p *peer, s *session, q *search, size int) bool {
	m := packet.ProbeMessage{Kind: packet.Echo, ID: rand.Uint32()}
	for m.ID == proofID || a.pings.echoes[m.ID] != nil {
		m.ID = rand.Uint32()
	}
	m.Padding = max(0, size-packet.ProbeLen)
	q.sent[m.ID] = size
	err := a.trySendProbe(s, m, p.path.at)
	if !errors.Is(err, syscall.EMSGSIZE) {
		return true
	}
	switch {
	case a.learn(p) || p.path.search != q:
	case q.low == 0 && size > leastMTU && !q.least: // the kernel does not say how long it may be; leastMTU is yet to be tried
		q.high = size - 1
		a.resize(p, q, leastMTU)
	default:
		a.fails(p, q)
	}
	return false
}

// answeredEcho: the reply to an echo of a search has been opened.
func (a *acquirer) answeredEcho(p *peer, id uint32) {
	q := p.path.search
	if q == nil {
		return
	}
	size, ours := q.sent[id]
	delete(q.sent, id)
	switch {
	case !ours:
	case size == q.size:
		a.passes(p, q)
	case size == leastMTU:
		q.least = true
	case size == shortestEcho:
		if q.answered++; q.answered >= sizeRounds {
			a.fails(p, q)
		}
	}
}

// passes and fails settle the size that is tried, and go on to the next.
func (a *acquirer) passes(p *peer, q *search) {
	q.low = q.size
	if limit := int(p.path.limit.Load()); q.low > limit {
		p.path.set(q.low)
	}
	a.next(p, q)
}

func (a *acquirer) fails(p *peer, q *search) {
	if q.low == 0 && (q.size <= leastMTU || !q.least) {
		a.inPieces(p)
		return
	}
	if q.low == 0 {
		q.low = leastMTU
		p.path.set(leastMTU)
		a.log.Info("path MTU lowered: longer frames do not arrive", "peer", p.name, "endpoint", p.path.at, "mtu", leastMTU)
	}
	q.high = q.size - 1
	a.next(p, q)
}

func (a *acquirer) next(p *peer, q *search) {
	if q.high-q.low < searchGrain {
		a.carries(p, q.low)
		return
	}
	a.resize(p, q, (q.low+q.high+1)/2)
}

// resize goes on with another size.
func (a *acquirer) resize(p *peer, q *search, size int) {
	a.timers.cancel(q.timer)
	q.size, q.rounds, q.answered = size, 0, 0
	clear(q.sent)
	a.try(p, q)
}
