package fake

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"ssmnet/packet"
)

// tunQueue is how many frames, or packets received, wait at most.
const tunQueue = 4096

var errFull = errors.New("fake: nobody takes the packets from the TUN")

const tunName = "fake0"

// TUN is an interface whose host is the test.
type TUN struct {
	frames  chan []byte // to TryReadFrame
	packets chan []byte // from WriteFrame
	fail    chan error
	stopped chan struct{}
	once    sync.Once
	closed  atomic.Bool
	plain   bool
	ready   ready
}

func newTUN(r ready) *TUN {
	return &TUN{
		frames: make(chan []byte, tunQueue), packets: make(chan []byte, tunQueue), fail: make(chan error, 1),
		stopped: make(chan struct{}), ready: r,
	}
}

// Inject makes the host send one IP packet.
func (t *TUN) Inject(pkt []byte) { t.InjectFrame(Frame(pkt)) }

// InjectFrame makes the host send one virtio-net frame. It keeps frame.
func (t *TUN) InjectFrame(frame []byte) {
	select {
	case t.frames <- frame:
		t.ready.signal()
	case <-t.stopped:
	}
}

// Packets are those that the host has received, one by one as its stack sees them: frames cut, checksums complete.
func (t *TUN) Packets() <-chan []byte { return t.packets }

// Fail makes the next TryReadFrame return err.
func (t *TUN) Fail(err error) {
	t.fail <- err
	t.ready.signal()
}

// SetOffload says whether frames may leave checksums and segmentation to the reader, as they may from the start. It is
// to be called before an SSM runs.
func (t *TUN) SetOffload(offload bool) { t.plain = !offload }

// Offload says whether frames may leave checksums and segmentation to the reader.
func (t *TUN) Offload() bool { return !t.plain }

// OffloadUDP says the same of super-packets of UDP.
func (t *TUN) OffloadUDP() bool { return !t.plain }

// Name is the interface's.
func (t *TUN) Name() string { return tunName }

// TryReadFrame gives an injected frame; where there is none, 0.
func (t *TUN) TryReadFrame(b []byte) (int, error) {
	select {
	case frame := <-t.frames:
		return copy(b, frame), nil
	case err := <-t.fail:
		return 0, err
	case <-t.stopped:
		return 0, net.ErrClosed
	default:
		return 0, nil
	}
}

// WriteFrame cuts the frame into packets. Like the kernel it refuses a frame that contradicts itself.
func (t *TUN) WriteFrame(pieces ...[]byte) error {
	if t.closed.Load() {
		return net.ErrClosed
	}
	b := bytes.Join(pieces, nil)
	if t.plain && len(b) >= packet.VirtioLen && !bytes.Equal(b[:packet.VirtioLen], make([]byte, packet.VirtioLen)) {
		return packet.ErrVirtio
	}
	var s packet.Segmenter
	if err := s.Reset(b); err != nil {
		return err
	}
	for {
		pkt, partial, ok := s.Next()
		if !ok {
			return nil
		}
		pkt = bytes.Clone(pkt)
		p, err := packet.Parse(pkt)
		if err == nil && partial {
			err = packet.CompleteChecksum(p, pkt)
		}
		if err != nil {
			return err
		}
		select {
		case t.packets <- pkt:
		default:
			return errFull
		}
	}
}

// Stop ends reading, and wakes who waits for it.
func (t *TUN) Stop() {
	t.once.Do(func() { close(t.stopped) })
	t.ready.signal()
}

// Close ends writing too.
func (t *TUN) Close() error {
	t.Stop()
	t.closed.Store(true)
	return nil
}
