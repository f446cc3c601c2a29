package udp

import (
	"cmp"
	"errors"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ssmnet/packet"
)

const (
	// maxSend is how many messages one sendmmsg takes.
	maxSend = 64
	// maxSingly bounds the addresses towards which frames go one by one. Beyond it, all are forgotten: each costs one refusal
	// to learn again.
	maxSingly = 64
)

// outbox is what one sendmmsg sends. The kernel's structures point into it, and to the frames, so it is never copied.
type outbox struct {
	messages     [maxSend]unix.Mmsghdr
	destinations [maxSend]address
	controls     [maxSend]segmentMessage
	starts       [maxSend + 1]int // where a message's vectors begin, and the last one's end
	vectors      []unix.Iovec
	count        int
}

// segmentMessage is the control message that asks for segmentation: a 16-bit size (udp(7), UDP_SEGMENT).
type segmentMessage struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

// errSingly: these frames are to be sent one by one.
var errSingly = errors.New("udp: no segmentation")

// Send sends each element of batch to its address: frames that are Segment bytes long but the last, which may be shorter; a
// Segment that is zero or covers all makes one frame of it, and no bytes are an empty datagram. The kernel segments up to
// 64 frames and 65,000 bytes at a time; longer elements go frame by frame. Nothing is kept.
//
// Where given, refused hears of each element that could not go as it should, in their order; it may send. Such an error
// concerns this element alone. ErrTooBig: its first frame is longer than its path is known to carry, and none has gone. After
// any other, those of its frames that can go have gone, and it is the first refusal.
func (c *Conn) Send(batch []packet.Datagrams, refused func(i int, err error)) {
	for i := 0; i < len(batch); {
		sent, err := c.sendNext(batch[i:])
		i += sent
		for left := err != nil; left; left = err == unix.EAGAIN && i < len(batch) {
			if refused != nil {
				refused(i, err)
			}
			i++
		}
	}
}

// sendNext sends elements from the first, and gives how many have gone. The error is about the next, which is done with.
func (c *Conn) sendNext(batch []packet.Datagrams) (sent int, refusal error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	sent, err := c.sendSome(batch)
	if err == nil {
		return sent, nil
	}
	if err = c.instead(batch[sent], err); err != nil {
		return sent, err
	}
	return sent + 1, nil
}

// SendFragmented is Send of one element whose frames are longer than their path carries in one piece (package doc).
// ErrTooBig is one that is longer than a datagram can be.
func (c *Conn) SendFragmented(d packet.Datagrams) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	err := c.discover(fragmented)
	if err == nil {
		err = c.sendEach(d)
	}
	return errors.Join(err, c.discover(whole)) // also where half of the change has failed
}

// discover changes the socket's mode.
func (c *Conn) discover(d discovery) error {
	return c.raw.Control(func(fd int) error { return d.set(fd, c.family) })
}

// sendSome sends elements from the first, with one sendmmsg, and gives how many have gone. The error is about the next.
func (c *Conn) sendSome(batch []packet.Datagrams) (sent int, err error) {
	o := &c.outbox
	o.reset()
	for _, d := range batch[:min(maxSend, len(batch))] {
		segment := segmentOf(d)
		if segment > 0 && (segment > math.MaxUint16 || c.refuses(d.Addr.Addr())) {
			err = errSingly
			break
		}
		for _, p := range d.Pieces {
			o.add(p)
		}
		if err = o.close(segment, c.family, d.Addr); err != nil {
			break
		}
	}
	if o.count == 0 {
		return 0, err
	}
	return c.flush()
}

// segmentOf is how long the frames of an element are where there are several, else zero.
func segmentOf(d packet.Datagrams) int {
	if d.Segment >= size(d.Pieces) {
		return 0
	}
	return max(0, d.Segment)
}

// refuses says whether the kernel is known not to segment what goes to an address.
func (c *Conn) refuses(to netip.Addr) bool {
	if !c.segments {
		return true
	}
	if len(c.singly) == 0 {
		return false
	}
	_, known := c.singly[to]
	return known
}

// instead does what is left for an element that was refused as a whole. A network card that cannot sum checksums (EIO) will
// not learn it: that is remembered. EINVAL and EMSGSIZE are mostly about this path, whose MTU is below the segment size: the
// first single frame shows it.
func (c *Conn) instead(d packet.Datagrams, err error) error {
	switch {
	case segmentOf(d) == 0 && err == unix.EMSGSIZE:
		return ErrTooBig
	case segmentOf(d) == 0:
		return err
	}
	switch err {
	case unix.EIO:
		if len(c.singly) >= maxSingly {
			clear(c.singly)
		}
		c.singly[d.Addr.Addr()] = struct{}{}
	case errSingly, unix.EINVAL, unix.EMSGSIZE:
	default:
		return err
	}
	return c.sendEach(d)
}

// sendEach sends the frames of one element singly. It gives the first refusal, and goes on behind it: but not behind
// ErrTooBig, for the frames that follow are as long, nor where the socket is full, for each would wait for room again.
func (c *Conn) sendEach(d packet.Datagrams) error {
	var first error
	for rest := newCutter(d); rest.left > 0; {
		sent, err := c.sendFrames(rest, d.Addr)
		rest.skip(sent)
		switch err {
		case unix.EMSGSIZE:
			return ErrTooBig
		case unix.EAGAIN:
			return err
		}
		if err != nil {
			rest.skip(1)
			first = cmp.Or(first, err)
		}
	}
	return first
}

// sendFrames is sendSome for the frames of one element.
func (c *Conn) sendFrames(rest cutter, to netip.AddrPort) (sent int, err error) {
	o := &c.outbox
	o.reset()
	for o.count < maxSend && rest.left > 0 {
		rest.cut(o.add)
		if err := o.close(0, c.family, to); err != nil {
			return 0, err
		}
	}
	return c.flush()
}

// fullFor is how long a sender waits for room in the socket: nothing else is done meanwhile, receiving included. What then
// still has none is dropped, as a router's full queue drops it.
const fullFor = 2 * time.Millisecond

// flush is one sendmmsg, once there is room; EAGAIN where there is none. Where it sends fewer than all, the next call tells
// why.
func (c *Conn) flush() (sent int, err error) {
	o := &c.outbox
	o.point()
	defer o.forget()
	sent, err = c.raw.Send(o.messages[:o.count])
	if err != unix.EAGAIN {
		return sent, err
	}
	if err = c.raw.Wait(unix.POLLOUT, fullFor); err != nil {
		return 0, err
	}
	return c.raw.Send(o.messages[:o.count])
}

func (o *outbox) reset() { o.count, o.vectors = 0, o.vectors[:0] }

// add adds bytes to the message that close will end.
func (o *outbox) add(b []byte) {
	if len(b) == 0 {
		return
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	o.vectors = append(o.vectors, v)
}

// close makes a message to an address of what was added, to be cut into segments of that size where it is not zero.
func (o *outbox) close(segment, family int, to netip.AddrPort) error {
	i := o.count
	length := o.destinations[i].set(family, to)
	if length == 0 {
		o.vectors = o.vectors[:o.starts[i]]
		return unix.EAFNOSUPPORT
	}
	h := &o.messages[i].Hdr
	h.Name, h.Namelen = o.destinations[i].name(), uint32(length)
	h.Control = nil
	h.SetControllen(0)
	if segment > 0 {
		m := &o.controls[i]
		m.Level, m.Type, m.size = unix.SOL_UDP, unix.UDP_SEGMENT, uint16(segment)
		m.SetLen(unix.CmsgLen(2))
		h.Control = (*byte)(unsafe.Pointer(m))
		h.SetControllen(int(unsafe.Sizeof(*m)))
	}
	o.count++
	o.starts[o.count] = len(o.vectors)
	return nil
}

// point has the messages point to their vectors, which no longer move.
func (o *outbox) point() {
	for i := range o.count {
		h, mine := &o.messages[i].Hdr, o.vectors[o.starts[i]:o.starts[i+1]]
		h.Iov = nil
		if len(mine) > 0 {
			h.Iov = &mine[0]
		}
		h.SetIovlen(len(mine))
	}
}

// forget lets go of what was sent.
func (o *outbox) forget() { clear(o.vectors) }

func size(pieces [][]byte) (n int) {
	for _, p := range pieces {
		n += len(p)
	}
	return n
}

// cutter cuts the frames of an element off its pieces, within which they may begin and end.
type cutter struct {
	pieces  [][]byte
	offset  int // in the first piece
	segment int
	left    int // bytes
}

func newCutter(d packet.Datagrams) cutter {
	left := size(d.Pieces)
	return cutter{pieces: d.Pieces, segment: cmp.Or(segmentOf(d), left), left: left}
}

// cut gives away the next frame, piece by piece.
func (f *cutter) cut(add func([]byte)) {
	for want := min(f.segment, f.left); want > 0; {
		b := f.pieces[0][f.offset:]
		b = b[:min(want, len(b))]
		add(b)
		want -= len(b)
		f.left -= len(b)
		f.offset += len(b)
		if f.offset == len(f.pieces[0]) {
			f.pieces, f.offset = f.pieces[1:], 0
		}
	}
}

func (f *cutter) skip(n int) {
	for range n {
		f.cut(func([]byte) {})
	}
}
