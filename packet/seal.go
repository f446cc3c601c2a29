package packet

// Sealing and opening of frames (package doc, "Frames").
//
//  1. Sealer.Reserve takes the counters of a batch.
//  2. Batch.Seal writes the header in front of the payload and seals, header included.
//  3. Opener.Open authenticates and decrypts a run of frames, and only then
//  4. admit asks the windows which of them are new.
//
// A session key makes one Sealer at one end and one Opener at the other. Both are made from the Key inside secret.Do;
// the caller destroys the Key afterwards, and Destroy lets go of what remains.

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/replay"

	"ssmnet/packet/secret"
)

// MaxFrames is how many frames a session key seals, long after the rekey that should have replaced it. Counters are
// below it.
const MaxFrames = 1 << 40

// nonceLen is that of both suites: 32 zero bits, then the counter.
const nonceLen = 12

type nonce [nonceLen]byte

func (n *nonce) set(c Counter) []byte {
	binary.BigEndian.PutUint64(n[nonceLen-8:], uint64(c))
	return n[:]
}

// spares keep nonces, which the AEAD's interface moves to the heap, from being allocated for every batch: the one who uses
// a lane is lent the same one each time.
type spares [MaxLanes]atomic.Pointer[nonce]

func (s *spares) borrow(lane uint8) *nonce {
	if n := s[lane].Swap(nil); n != nil {
		return n
	}
	return new(nonce)
}

func (s *spares) giveBack(lane uint8, n *nonce) { s[lane].Store(n) }

// Sealer seals the frames of one direction of a session. It is safe for concurrent use.
type Sealer struct {
	spi     SPI
	aead    atomic.Pointer[aead] // nil once destroyed
	counter atomic.Uint64        // the next frame's; beyond MaxFrames once exhausted
	nonces  spares
}

// NewSealer makes a Sealer whose frames carry spi, the receiver's. It does not keep key. For an empty
// one the error is ErrDestroyed.
func NewSealer(suite Suite, key secret.Key, spi SPI) (*Sealer, error) {
	if spi == 0 {
		return nil, errSPI
	}
	a, err := newAEAD(suite, key)
	if err != nil {
		return nil, err
	}
	s := &Sealer{spi: spi}
	s.aead.Store(a)
	return s, nil
}

// Seal appends one whole frame of lane 0 to dst, as Batch.Seal does. It fails also for a type or flags of no known frame
// and for a key that has sealed MaxFrames.
func (s *Sealer) Seal(dst []byte, typ FrameType, flags uint8, payload []byte) ([]byte, error) {
	if !knownFrame(typ, flags) {
		return dst, ErrFrame
	}
	b, err := s.reserve(FrameHeader{Type: typ}, 1)
	if err != nil {
		return dst, err
	}
	return b.Seal(dst, flags, payload)
}

// Batch is counters reserved for frames of one lane. One goroutine owns it, and must not copy it: a counter used twice gives
// the key away. The zero value has none.
type Batch struct {
	_      noCopy
	sealer *Sealer
	nonce  *nonce      // borrowed from sealer until end is reached
	next   FrameHeader // of the next frame, without flags
	end    Counter     // of the last frame, and one more
}

// noCopy has go vet report copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// Reserve takes counters for n data frames of a lane. It allocates only where another batch of the lane is still open, or
// was left with counters unused. It fails for a lane of MaxLanes or more, for a key that has sealed MaxFrames and for one
// that was destroyed; close to MaxFrames the batch is shorter than n.
func (s *Sealer) Reserve(lane uint8, n int) (Batch, error) {
	if lane >= MaxLanes {
		return Batch{}, ErrFrame
	}
	return s.reserve(FrameHeader{Type: Data, Lane: lane}, n)
}

// reserve takes the next n counters. One that is reserved is never given again, so no nonce repeats whatever fails later.
func (s *Sealer) reserve(h FrameHeader, n int) (Batch, error) {
	if s.aead.Load() == nil {
		return Batch{}, ErrDestroyed
	}
	if n <= 0 {
		return Batch{}, nil
	}
	end := s.counter.Add(uint64(n))
	h.SPI, h.Counter = s.spi, Counter(end-uint64(n))
	if h.Counter >= MaxFrames {
		return Batch{}, errExhausted
	}
	return Batch{sealer: s, nonce: s.nonces.borrow(h.Lane), next: h, end: Counter(min(end, MaxFrames))}, nil
}

// Seal appends the next frame, Overhead bytes longer than payload, to dst. It allocates only where dst lacks the
// capacity. The payload may lie exactly where it will be sealed, at dst[len(dst)+HeaderLen:]; it must not overlap the
// new bytes of dst in any other way. It fails for flags of no known frame, for a batch that is used up and for a key that
// was destroyed; dst is then unchanged.
func (b *Batch) Seal(dst []byte, flags uint8, payload []byte) ([]byte, error) {
	if b.next.Counter >= b.end {
		return dst, errExhausted
	}
	if !knownFrame(b.next.Type, flags) {
		return dst, ErrFrame
	}
	a := b.sealer.aead.Load()
	if a == nil {
		return dst, ErrDestroyed
	}
	start := len(dst)
	dst = slices.Grow(dst, Overhead+len(payload))[:start+HeaderLen]
	header := dst[start:]
	b.next.Put(header)
	header[offFlags] = flags
	dst = a.Seal(dst, b.nonce.set(b.next.Counter), payload, header)
	if b.next.Counter++; b.next.Counter == b.end {
		b.sealer.nonces.giveBack(b.next.Lane, b.nonce)
	}
	return dst, nil
}

// Sealed is how many counters have been used: at most MaxFrames.
func (s *Sealer) Sealed() Counter { return Counter(min(s.counter.Load(), MaxFrames)) }

// SPI is the one its frames carry.
func (s *Sealer) SPI() SPI { return s.spi }

// Destroy lets go of the key. A Seal that has begun ends well; later ones fail.
func (s *Sealer) Destroy() { s.aead.Store(nil) }

// Opener opens the frames of one direction of a session. It is safe for concurrent use; goroutines that keep to lanes of
// their own do not wait for one another.
type Opener struct {
	aead    atomic.Pointer[aead] // nil once destroyed
	nonces  spares
	windows [MaxLanes]atomic.Pointer[window] // nil until a frame of the lane was opened
}

// window is the anti-replay window of a lane.
type window struct {
	mu     sync.Mutex
	filter replay.Filter
}

// NewOpener makes an Opener. It does not keep key. For an empty one the error is ErrDestroyed.
func NewOpener(suite Suite, key secret.Key) (*Opener, error) {
	a, err := newAEAD(suite, key)
	if err != nil {
		return nil, err
	}
	o := new(Opener)
	o.aead.Store(a)
	return o, nil
}

// Frame is a received frame.
type Frame struct {
	FrameHeader        // what ParseFrame made of Bytes
	Bytes       []byte // all of it
	Payload     []byte // in Bytes, once opened; nil where Err is not
	Err         error  // ErrOpen, ErrReplay or ErrDestroyed
}

// Open opens each frame in place. Frames with the same counter are one frame repeated: the first is taken. The window of
// a lane is locked once for all frames of the lane that stand together. It allocates only at the first frame of a lane.
// What Bytes hold after an error is undefined, and after ErrOpen nothing of a payload.
func (o *Opener) Open(frames []Frame) {
	if len(frames) == 0 {
		return
	}
	a, lane := o.aead.Load(), frames[0].Lane%MaxLanes
	n := o.nonces.borrow(lane)
	for i := range frames {
		frames[i].open(a, n)
	}
	o.nonces.giveBack(lane, n)
	o.admit(frames)
}

func (f *Frame) open(a *aead, n *nonce) {
	f.Payload, f.Err = nil, nil
	switch {
	case a == nil:
		f.Err = ErrDestroyed
	case len(f.Bytes) < Overhead || f.Lane >= MaxLanes:
		f.Err = ErrOpen
	default:
		sealed := f.Bytes[HeaderLen:]
		payload, err := a.Open(sealed[:0], n.set(f.Counter), sealed, f.Bytes[:HeaderLen])
		if err != nil {
			f.Err = ErrOpen
			return
		}
		f.Payload = payload
	}
}

// admit refuses those of the opened frames that their lane's window does not accept.
func (o *Opener) admit(frames []Frame) {
	var locked *window
	for i := range frames {
		f := &frames[i]
		if f.Err != nil {
			continue
		}
		if w := o.window(f.Lane); w != locked {
			if locked != nil {
				locked.mu.Unlock()
			}
			w.mu.Lock()
			locked = w
		}
		if !locked.filter.ValidateCounter(uint64(f.Counter), MaxFrames) {
			f.Payload, f.Err = nil, ErrReplay
		}
	}
	if locked != nil {
		locked.mu.Unlock()
	}
}

// window is that of a lane, made where there is none.
func (o *Opener) window(lane uint8) *window {
	at := &o.windows[lane]
	if at.Load() == nil {
		at.CompareAndSwap(nil, new(window))
	}
	return at.Load()
}

// Destroy lets go of the key. An Open that has begun ends well; later ones fail.
func (o *Opener) Destroy() { o.aead.Store(nil) }
