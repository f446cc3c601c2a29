package udp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments is how many datagrams one send makes; older kernels take no more (UDP_MAX_SEGMENTS before 6.9).
	maxSegments = 64
	// maxSend is how many bytes one send takes: below 65,535 less the IP and UDP headers of either family.
	maxSend = 65000
)

// Receive waits for one datagram, or a run of them from one source that the kernel has joined, and puts it into b,
// which should have maxBatch bytes. Each datagram is segment bytes long but the last, which may be shorter; a single
// one has segment == n (zero for an empty datagram). A run that does not fit b is dropped. The source of an IPv4
// datagram is an IPv4 address. After Close the error is net.ErrClosed, and there is no other: what ICMP says of earlier
// sends the kernel tells connected sockets alone, or those that ask for it.
func (c *Conn) Receive(b []byte) (n, segment int, src netip.AddrPort, err error) {
	var control [64]byte
	for {
		var nc, flags int
		n, nc, flags, src, err = c.conn.ReadMsgUDPAddrPort(b, control[:])
		if err != nil {
			return 0, 0, netip.AddrPort{}, err
		}
		if flags&unix.MSG_TRUNC != 0 {
			continue
		}
		segment = segmentSize(control[:nc])
		if segment <= 0 || segment > n {
			segment = n
		}
		return n, segment, netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), nil
	}
}

// segmentSize finds the UDP_GRO message among the control messages: an int, the size of each datagram of the run.
// It is zero where there is none.
func segmentSize(control []byte) int {
	for len(control) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		if header.Level == unix.SOL_UDP && header.Type == unix.UDP_GRO && len(data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(data)))
		}
		control = rest
	}
	return 0
}

// Send sends the frames in b, each of segment bytes but the last, which may be shorter, to dst. A segment that is zero
// or covers b makes one frame of it; an empty b is an empty datagram. b is not kept.
//
// An error concerns these frames alone. ErrTooBig: the first is longer than its path is known to carry, and none has
// gone. After any other, those that can go have gone: Send goes on behind a frame that was refused and returns the first
// refusal.
func (c *Conn) Send(b []byte, segment int, dst netip.AddrPort) error {
	c.mode.RLock()
	defer c.mode.RUnlock()
	if segment <= 0 || segment >= len(b) {
		return c.sendOne(b, dst)
	}
	batch := min(maxSegments, max(1, maxSend/segment)) * segment
	var first error
	for len(b) > 0 {
		part := b[:min(batch, len(b))]
		b = b[len(part):]
		err := c.sendBatch(part, segment, dst)
		if err == ErrTooBig {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// SendFragmented is Send for frames that are longer than their path carries in one piece (package doc). ErrTooBig is one
// that is longer than a datagram can be.
func (c *Conn) SendFragmented(b []byte, segment int, dst netip.AddrPort) error {
	c.mode.Lock()
	defer c.mode.Unlock()
	if err := c.discover(fragmented); err != nil {
		return err
	}
	if segment <= 0 {
		segment = max(1, len(b))
	}
	err := c.sendEach(b, segment, dst)
	return errors.Join(err, c.discover(whole))
}

// discover changes the socket's mode.
func (c *Conn) discover(d discovery) error {
	var err error
	if closed := c.raw.Control(func(fd uintptr) { err = d.set(int(fd), c.family) }); closed != nil {
		return closed
	}
	return err
}

// sendBatch sends what one sendmsg can carry, and frame by frame what the kernel will not segment. A network card that
// cannot sum checksums (EIO) will not learn it: that is remembered. EINVAL and EMSGSIZE are mostly about this path,
// whose MTU is below the segment size: the first single frame shows it.
func (c *Conn) sendBatch(b []byte, segment int, dst netip.AddrPort) error {
	if len(b) <= segment {
		return c.sendOne(b, dst)
	}
	if !c.singly.Load() {
		message := segmentMessage{size: uint16(segment)}
		message.Level, message.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		message.SetLen(unix.CmsgLen(2))
		err := c.write(b, unsafe.Slice((*byte)(unsafe.Pointer(&message)), unsafe.Sizeof(message)), dst)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EIO):
			c.singly.Store(true)
		case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EMSGSIZE):
			return err
		}
	}
	return c.sendEach(b, segment, dst)
}

// segmentMessage is the control message that asks for segmentation: a 16-bit size (udp(7), UDP_SEGMENT).
type segmentMessage struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

func (c *Conn) sendEach(b []byte, segment int, dst netip.AddrPort) error {
	var first error
	for len(b) > 0 {
		frame := b[:min(segment, len(b))]
		b = b[len(frame):]
		err := c.sendOne(frame, dst)
		if err == ErrTooBig {
			return err // so are the others but the last, and the first was the longest
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func (c *Conn) sendOne(b []byte, dst netip.AddrPort) error {
	err := c.write(b, nil, dst)
	if errors.Is(err, unix.EMSGSIZE) {
		return ErrTooBig
	}
	return err
}

// write is one sendmsg.
func (c *Conn) write(b, control []byte, dst netip.AddrPort) error {
	_, _, err := c.conn.WriteMsgUDPAddrPort(b, control, dst)
	return err
}
