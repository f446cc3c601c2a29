package tunssm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"ssmnet/packet"
)

const (
	// answerRate and answerBurst bound the ICMP errors a second (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 f).
	answerRate  = 1000
	answerBurst = 200
	// faultPause is between two reads that fail.
	faultPause = time.Millisecond
	// holdBacklog is how many frames may wait for the acquirer to hold them.
	holdBacklog = 128
)

// dataPath is what the loops of the queues and the acquirer share.
type dataPath struct {
	host     Host
	log      *slog.Logger
	drops    drops
	counts   counts
	table    atomic.Pointer[table]
	origin   atomic.Pointer[origin]
	lanes    *lanes
	answers  *rate.Limiter
	echoing  atomic.Int32 // echoes of ours under way
	familiar familiar
	toHold   chan []byte          // virtio-net frames, owned by the acquirer once sent
	events   chan func(*acquirer) // run on the acquirer's goroutine
	ended    chan struct{}        // closed when the acquirer has ended and takes no more events
}

func newDataPath(host Host, log *slog.Logger) *dataPath {
	d := &dataPath{
		host: host, log: log, lanes: newLanes(1 + len(host.More)), answers: rate.NewLimiter(answerRate, answerBurst),
		toHold: make(chan []byte, holdBacklog), events: make(chan func(*acquirer), 64), ended: make(chan struct{}),
	}
	d.table.Store(&table{})
	d.origin.Store(&origin{})
	return d
}

// toAcquirer runs f on the acquirer's goroutine, in order; it says whether it will. It waits for its turn, so neither the
// acquirer nor a loop may call it.
func (d *dataPath) toAcquirer(f func(*acquirer)) bool {
	select {
	case d.events <- f:
		return true
	case <-d.ended:
		return false
	}
}

// atOnce is toAcquirer for the loops: it never waits. What it does not take is found later (acquirer.catchUp), comes again, or
// may be lost.
func (d *dataPath) atOnce(f func(*acquirer)) bool {
	select {
	case d.events <- f:
		return true
	default:
		return false
	}
}

// writeFrame writes one frame to the TUN, given in pieces.
func (d *dataPath) writeFrame(pieces [][]byte) {
	if d.host.TUN.WriteFrame(pieces...) != nil {
		d.drops.add(dropTUN)
	}
}

// sendOne sends one frame in one piece, and says why it could not go.
func (d *dataPath) sendOne(frame []byte, to netip.AddrPort) (err error) {
	one := []packet.Datagrams{{Pieces: [][]byte{frame}, Segment: len(frame), Addr: to}}
	d.host.UDP.Send(one, func(_ int, refusal error) { err = refusal })
	return err
}

// outlive takes the error of reading the interface or the socket. One that lasts comes back: it was stopped, or is gone. Any
// other is of the moment (no memory, a frame that the kernel could not hand over, what ICMP has said): it is counted, and the
// pause keeps one that comes again and again from taking a processor.
func (d *dataPath) outlive(err error) error {
	for _, lasts := range [...]error{nil, net.ErrClosed, os.ErrClosed, syscall.EBADFD, syscall.EBADF, syscall.ENODEV} {
		if errors.Is(err, lasts) {
			return err
		}
	}
	d.drops.add(dropRead)
	time.Sleep(faultPause)
	return nil
}

// lasting turns the error that ended a loop into the SSM's: none where the SSM itself is ending.
func (d *dataPath) lasting(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed)) {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
