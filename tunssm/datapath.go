package tunssm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/time/rate"

	"ssmnet/packet"
)

const (
	// answerRate and answerBurst bound the ICMP errors a second (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 f).
	answerRate  = 1000
	answerBurst = 200
	// holdBacklog is how many frames may wait for the acquirer to hold them.
	holdBacklog = 128
)

// dataPath is what the two loops and the acquirer share.
type dataPath struct {
	host     Host
	log      *slog.Logger
	drops    drops
	table    atomic.Pointer[table]
	origin   atomic.Pointer[origin]
	answers  *rate.Limiter
	echoing  atomic.Int32 // echoes of ours under way
	familiar familiar
	toHold   chan []byte          // virtio-net frames, owned by the acquirer once sent
	events   chan func(*acquirer) // run on the acquirer's goroutine
	ended    chan struct{}        // closed when the acquirer has ended and takes no more events
}

func newDataPath(host Host, log *slog.Logger) *dataPath {
	d := &dataPath{
		host: host, log: log, answers: rate.NewLimiter(answerRate, answerBurst),
		toHold: make(chan []byte, holdBacklog), events: make(chan func(*acquirer), 64), ended: make(chan struct{}),
	}
	d.table.Store(&table{})
	d.origin.Store(&origin{})
	return d
}

// toAcquirer runs f on the acquirer's goroutine, in order; it says whether it will. The acquirer must not call it.
func (d *dataPath) toAcquirer(f func(*acquirer)) bool {
	select {
	case d.events <- f:
		return true
	case <-d.ended:
		return false
	}
}

// atOnce is toAcquirer for what may as well come later: it never waits.
func (d *dataPath) atOnce(f func(*acquirer)) bool {
	select {
	case d.events <- f:
		return true
	default:
		return false
	}
}

// sendProbe seals one probe into buf, which it returns for the next, and sends it to each target.
func (d *dataPath) sendProbe(buf []byte, s *session, m packet.ProbeMessage, targets ...netip.AddrPort) []byte {
	buf, ok := d.sealProbe(buf, s, m)
	if !ok {
		return buf
	}
	for _, to := range targets {
		if d.host.UDP.Send(buf, len(buf), to) != nil {
			d.drops.add(dropSend)
		}
	}
	return buf
}

// trySendProbe sends one probe in one piece, and says why it could not go.
func (d *dataPath) trySendProbe(s *session, m packet.ProbeMessage, to netip.AddrPort) error {
	buf, ok := d.sealProbe(nil, s, m)
	if !ok {
		return nil
	}
	return d.host.UDP.Send(buf, len(buf), to)
}

func (d *dataPath) sealProbe(buf []byte, s *session, m packet.ProbeMessage) (sealed []byte, ok bool) {
	var plain [16]byte
	buf, err := s.sealer.Seal(buf, packet.Probe, 0, m.Append(plain[:0]))
	if err != nil {
		d.drops.add(dropSeal)
		return buf, false
	}
	s.probed.Store(int64(s.age()))
	return buf, true
}

// target is where data goes: to where the peer was last heard from, or to its first candidate until it has been heard on
// this session.
func (s *session) target() netip.AddrPort {
	candidates := *s.candidates.Load()
	e := s.peer.endpoint.Load()
	switch {
	case e != nil && (s.confirmed.Load() || len(candidates) == 0):
		return *e
	case len(candidates) > 0:
		return candidates[0]
	}
	return netip.AddrPort{} // another run of the peer has taken over and not yet been heard: Send fails and is counted
}

// everywhere is all the places where the peer might be: its candidates, and where it was last heard from.
func (s *session) everywhere() []netip.AddrPort {
	candidates := *s.candidates.Load()
	e := s.peer.endpoint.Load()
	if e == nil || slices.Contains(candidates, *e) {
		return candidates
	}
	return append([]netip.AddrPort{*e}, candidates...)
}

// lasting turns the error that ended a loop into the SSM's: none where the SSM itself is ending.
func (d *dataPath) lasting(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed)) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
