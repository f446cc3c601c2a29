package packet

// Sealing and opening of frames (package doc, "Frames").
//
//  1. Sealer.Seal reserves a counter, writes the header in front of the payload and seals, header included.
//  2. Opener.Open authenticates and decrypts, and only then asks the window whether the frame is new.
//
// A session key makes one Sealer at one end and one Opener at the other. Both are made from the Key inside secret.Do;
// the caller destroys the Key afterwards, and Destroy lets go of what remains.

import (
	"encoding/binary"
	"slices"
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

// Sealer seals the frames of one direction of a session. It is safe for concurrent use.
type Sealer struct {
	spi     SPI
	aead    atomic.Pointer[aead] // nil once destroyed
	counter atomic.Uint64        // the next frame's; beyond MaxFrames once exhausted
	spare   atomic.Pointer[nonce]
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

// Seal appends one whole frame, Overhead bytes longer than payload, to dst. It allocates only where dst lacks the
// capacity. The payload may lie exactly where it will be sealed, at dst[len(dst)+HeaderLen:]; it must not overlap the
// new bytes of dst in any other way. It fails for a type or flags of no known frame, for a
// key that has sealed MaxFrames and for one that was destroyed; dst is then unchanged.
func (s *Sealer) Seal(dst []byte, typ FrameType, flags uint8, payload []byte) ([]byte, error) {
	if !knownFrame(typ, flags) {
		return dst, ErrFrame
	}
	a := s.aead.Load()
	if a == nil {
		return dst, ErrDestroyed
	}
	counter, err := s.reserve()
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = slices.Grow(dst, Overhead+len(payload))[:start+HeaderLen]
	header := dst[start:]
	FrameHeader{Type: typ, Flags: flags, SPI: s.spi, Counter: counter}.Put(header)
	n := s.borrowNonce()
	dst = a.Seal(dst, n.set(counter), payload, header)
	s.spare.Store(n)
	return dst, nil
}

// reserve takes the next counter. One that is reserved is never given again, so no nonce repeats whatever fails later.
func (s *Sealer) reserve() (Counter, error) {
	c := s.counter.Add(1) - 1
	if c >= MaxFrames {
		return 0, errExhausted
	}
	return Counter(c), nil
}

// borrowNonce keeps the nonce, which the AEAD's interface moves to the heap, from being allocated for every frame: a
// lone caller is lent the same one each time.
func (s *Sealer) borrowNonce() *nonce {
	if n := s.spare.Swap(nil); n != nil {
		return n
	}
	return new(nonce)
}

// Sealed is how many counters have been used: at most MaxFrames.
func (s *Sealer) Sealed() Counter { return Counter(min(s.counter.Load(), MaxFrames)) }

// SPI is the one its frames carry.
func (s *Sealer) SPI() SPI { return s.spi }

// Destroy lets go of the key. A Seal that has begun ends well; later ones fail.
func (s *Sealer) Destroy() { s.aead.Store(nil) }

// Opener opens the frames of one direction of a session. One goroutine owns it; any may call Destroy.
type Opener struct {
	aead   atomic.Pointer[aead] // nil once destroyed
	nonce  nonce
	window replay.Filter
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

// Open appends the payload of a frame to dst. h is what ParseFrame made of frame. It allocates only where dst lacks the
// capacity. The new bytes of dst may lie exactly over the sealed payload, as with dst = frame[HeaderLen:HeaderLen];
// they must not overlap frame in any other way. The errors are ErrOpen, ErrReplay and ErrDestroyed; what the new bytes
// then hold is undefined, and after ErrOpen they hold nothing of a payload.
func (o *Opener) Open(dst []byte, h FrameHeader, frame []byte) ([]byte, error) {
	a := o.aead.Load()
	if a == nil {
		return dst, ErrDestroyed
	}
	if len(frame) < Overhead {
		return dst, ErrOpen
	}
	out, err := a.Open(dst, o.nonce.set(h.Counter), frame[HeaderLen:], frame[:HeaderLen])
	if err != nil {
		return dst, ErrOpen
	}
	if !o.window.ValidateCounter(uint64(h.Counter), MaxFrames) {
		return dst, ErrReplay
	}
	return out, nil
}

// Destroy lets go of the key. An Open that has begun ends well; later ones fail.
func (o *Opener) Destroy() { o.aead.Store(nil) }
