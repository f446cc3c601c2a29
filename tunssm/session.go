package tunssm

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// probeRate and probeBurst bound the echoes and replies a second that a peer may have the inbound loop see to.
const (
	probeRate  = 200
	probeBurst = 50
)

// peer is another SSM as this one knows it from the sessions it has had with it. The loops read the atomics; the rest
// belongs to the acquirer.
type peer struct {
	name     string
	endpoint atomic.Pointer[netip.AddrPort]   // where its newest opened frame came from, or the first candidate
	sending  atomic.Pointer[session]          // what to send on; nil where there is none
	cut      atomic.Pointer[packet.Selectors] // what its sessions carried before they were narrowed; nil: never
	path     path

	boot     control.Boot // of its newest session
	prefixes []netip.Prefix
	asOf     control.AsOf // of the grant that gave the prefixes
	given    time.Time    // when
	sessions []*session   // the newest last
}

// session is one session key's use. The fields before the atomics do not change.
type session struct {
	id        control.SessionID
	peer      *peer
	requester bool // whether this side asked
	order     uint64
	boot      control.Boot // of the peer
	spi       packet.SPI   // by which this side receives
	suite     packet.Suite
	sealer    *packet.Sealer
	opener    *packet.Opener // the inbound loop's
	self      []netip.Prefix // inner addresses this side may use
	prefixes  []netip.Prefix // inner addresses the peer may use
	terms     control.Terms  // but for the selectors, which scope has
	since     time.Time

	scope      atomic.Pointer[scope] // what it may carry
	confirmed  atomic.Bool
	candidates atomic.Pointer[[]netip.AddrPort] // of the peer, the first tried first
	rx, tx     traffic                          // data
	heard      atomic.Int64                     // age in nanoseconds when the last frame of any kind was opened; 0 for never
	probed     atomic.Int64                     // age in nanoseconds when the last probe was sent; 0 for never
	newest     packet.Counter                   // one more than the highest opened; the inbound loop's
	probes     *rate.Limiter                    // of the peer's echoes and replies; the inbound loop's
	closed     bool                             // the peer has said close; the inbound loop's

	// The acquirer's.
	entry      control.SessionEntry // as reported
	offered    []netip.AddrPort     // the candidates as the KDC named them
	superseded bool
	closing    bool          // this side has said close
	rekeyAt    time.Duration // age at which this side asks for another
	asked      time.Duration // age at which it last did; 0 for never
	unanswered time.Duration // age at which data was sent that nothing has answered; 0 for none
	proof      *timer        // the next probe of a provisional session
	until      *timer        // the next look at whether the grant has ended
	timers     []*timer      // cancelled when the session is destroyed, as proof and until are
}

// traffic counts inner packets one way.
type traffic struct {
	packets, bytes atomic.Uint64
	last           atomic.Int64 // age of the session in nanoseconds at the last frame; 0 for none
}

func (t *traffic) add(packets, bytes int, age time.Duration) {
	t.packets.Add(uint64(packets))
	t.bytes.Add(uint64(bytes))
	t.last.Store(int64(age))
}

func (t *traffic) lastAt() time.Duration { return time.Duration(t.last.Load()) }

// newSession makes the session of keys, which it destroys.
func newSession(p *peer, k *control.Keys) (*session, error) {
	defer k.Destroy()
	sealer, err := packet.NewSealer(k.Suite, k.Seal, k.Peer.SPI)
	if err != nil {
		return nil, err
	}
	opener, err := packet.NewOpener(k.Suite, k.Open)
	if err != nil {
		sealer.Destroy()
		return nil, err
	}
	a, b := k.Peer, k.Self
	if k.Requester {
		a, b = b, a
	}
	s := &session{
		id: k.Session, peer: p, requester: k.Requester, order: k.Order, boot: k.Peer.Boot, spi: k.Self.SPI,
		suite: k.Suite, sealer: sealer, opener: opener, self: k.Self.Prefixes, prefixes: k.Peer.Prefixes,
		terms: k.Terms, since: time.Now(), probes: rate.NewLimiter(probeRate, probeBurst),
		entry: control.SessionEntry{
			ID: k.Session, Requester: a.Name, Responder: b.Name, BootA: a.Boot, BootB: b.Boot,
			Selectors: control.DigestSelectors(k.Terms.Selectors), AsOf: k.Terms.AsOf,
		},
	}
	s.scope.Store(&scope{selectors: k.Terms.Selectors, asOf: k.Terms.AsOf, whole: true})
	s.terms.Selectors = nil
	s.candidates.Store(&k.Candidates)
	return s, nil
}

// before orders the sessions with one boot of a peer: both sides send on the last.
func (s *session) before(t *session) bool {
	return s.order < t.order || s.order == t.order && s.id.Compare(t.id) < 0
}

// mayCarry says whether this side may send data on s at all (package doc, "Which session").
func (s *session) mayCarry() bool { return s.confirmed.Load() || s.requester }

// choose is the session to send on: the last confirmed one of the peer's newest boot, else the last provisional one.
func (p *peer) choose() *session {
	var best *session
	for _, s := range p.sessions {
		if s.boot != p.boot || !s.mayCarry() || s.superseded || s.closing {
			continue
		}
		switch {
		case best == nil:
			best = s
		case s.confirmed.Load() != best.confirmed.Load():
			if s.confirmed.Load() {
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

// covers says whether addr is inside one of the prefixes.
func covers(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
