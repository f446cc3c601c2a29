package tunssm

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// probeRate and probeBurst bound the echoes and replies a second that a peer may have inbound see to.
const (
	probeRate  = 200
	probeBurst = 50
)

// session is one session key's use. The fields before the atomics do not change; anyone reads the atomics.
type session struct {
	id        control.SessionID
	peer      *peer
	requester bool // whether this side asked
	order     uint64
	boot      control.Boot // of the peer
	spi       packet.SPI   // by which this side receives
	suite     packet.Suite
	sealer    *packet.Sealer
	opener    *packet.Opener
	self      []netip.Prefix // inner addresses this side may use
	prefixes  []netip.Prefix // inner addresses the peer may use
	terms     control.Terms  // but for the selectors, which scope has
	since     time.Time

	scope      atomic.Pointer[scope]            // what it may carry
	candidates atomic.Pointer[[]netip.AddrPort] // of the peer, the first tried first
	rx, tx     traffic                          // data
	heard      atomic.Int64                     // age in nanoseconds when the last frame of any kind was opened; 0 for never
	probed     atomic.Int64                     // age in nanoseconds when the last probe was sent; 0 for never
	newest     atomic.Uint64                    // one more than the highest counter opened
	closed     atomic.Bool                      // the peer has said close
	probes     *rate.Limiter                    // of the peer's echoes and replies

	// The acquirer's.
	entry      control.SessionEntry // as reported
	named      []netip.AddrPort     // the candidates as the KDC named them
	state      state
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
			Digest: control.DigestSelectors(k.Terms.Selectors), AsOf: k.Terms.AsOf,
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
func (s *session) mayCarry() bool {
	return s.state == confirmed || s.state == provisional && s.requester
}

// age is the session's, on the monotonic clock.
func (s *session) age() time.Duration { return s.at(time.Now()) }

// at is the session's age at a moment: never zero, which stands for never.
func (s *session) at(now time.Time) time.Duration { return max(1, now.Sub(s.since)+1) }

// heardAt and probedAt are when the last frame of any kind was opened, and the last probe sent; zero for never.
func (s *session) heardAt() time.Duration { return time.Duration(s.heard.Load()) }

func (s *session) probedAt() time.Duration { return time.Duration(s.probed.Load()) }

// idle is how long no data went either way.
func (s *session) idle(now time.Duration) time.Duration {
	return now - max(s.rx.lastAt(), s.tx.lastAt())
}

// unansweredFor is how long data has been sent without anything opened since.
func (s *session) unansweredFor(now time.Duration) time.Duration {
	heard, sent := s.heardAt(), s.tx.lastAt()
	if s.unanswered == 0 || heard >= s.unanswered {
		s.unanswered = 0
		if sent > heard {
			s.unanswered = sent
		}
	}
	if s.unanswered == 0 {
		return 0
	}
	return now - s.unanswered
}
