package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"ssmnet/packet"
	"ssmnet/tunssm/raw"
)

const (
	// maxReceive is how many messages one TryReceive takes at most. The kernel fills them in order, so buffers further on cost
	// no memory before they are used.
	maxReceive = 32
	// enough bytes is about what one TryReceive takes where messages are long, so that what came first is not kept until much
	// that came later has been opened, too.
	enough = 128 << 10
	// maxMessage has room for the longest UDP payload, which is the most that GRO joins.
	maxMessage = 1 << 16
)

// inbox is what one TryReceive fills. The kernel's structures point into it, so it is never copied.
type inbox struct {
	messages  [maxReceive]unix.Mmsghdr
	vectors   [maxReceive]unix.Iovec
	sources   [maxReceive]address
	controls  [maxReceive][64]byte
	pieces    [maxReceive][1][]byte
	datagrams [maxReceive]packet.Datagrams
	buffers   []byte
	next      int // how many messages the next TryReceive takes
}

func (in *inbox) init() {
	in.buffers, in.next = make([]byte, maxReceive*maxMessage), maxReceive
	for i := range in.messages {
		in.vectors[i].Base = &in.buffers[i*maxMessage]
		in.vectors[i].SetLen(maxMessage)
		h := &in.messages[i].Hdr
		h.Name, h.Iov, h.Control = in.sources[i].name(), &in.vectors[i], &in.controls[i][0]
		h.SetIovlen(1)
	}
}

// TryReceive returns what is there, up to a bound; it is borrowed until the next call. Each element is one datagram, or a run
// of them from one source that the kernel has joined: each is Segment bytes long but the last, which may be shorter; a
// single one has them all (zero for an empty datagram). Of a run longer than any that a kernel joins the end would be cut off,
// of a frame that then does not open. The source of an IPv4 datagram is an IPv4 address. After Stop the
// error is net.ErrClosed; any other is of the moment, as where the kernel has no memory. (What ICMP says of earlier sends it
// tells connected sockets alone, or those that ask for it.)
func (c *Conn) TryReceive() ([]packet.Datagrams, error) {
	in := &c.inbox
	for i := range in.next {
		h := &in.messages[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(in.sources[i]))
		h.SetControllen(len(in.controls[i]))
	}
	n, err := c.raw.Receive(in.messages[:in.next])
	switch err {
	case nil:
		return in.collect(n), nil
	case unix.EAGAIN:
		return nil, nil
	}
	return nil, err
}

// Descriptor is for waiting: datagrams may be there once it may be read.
func (c *Conn) Descriptor() *raw.Descriptor { return c.raw }

// collect makes datagrams of the first n messages, and expects the next to be like them.
func (in *inbox) collect(n int) []packet.Datagrams {
	got, total := in.datagrams[:0], 0
	for i := range n {
		m := &in.messages[i]
		length := int(m.Len)
		total += length
		segment := segmentSize(in.controls[i][:m.Hdr.Controllen])
		if segment <= 0 || segment > length {
			segment = length
		}
		in.pieces[i][0] = in.buffers[i*maxMessage:][:length]
		got = append(got, packet.Datagrams{Pieces: in.pieces[i][:], Segment: segment, Addr: in.sources[i].addrPort()})
	}
	in.next = min(maxReceive, 1+enough*n/max(1, total))
	return got
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

// address is one of the kernel's: sockaddr_in or sockaddr_in6, by its family.
type address [unix.SizeofSockaddrInet6]byte

// Both begin with the family and the port; then comes the IPv4 address, or the flow label, the IPv6 address and the scope.
const (
	atPort = 2
	atIPv4 = 4
	atIPv6 = 8
)

func (a *address) name() *byte { return &a[0] }

func (a *address) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(a[atPort:])
	if binary.NativeEndian.Uint16(a[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[atIPv4:])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[atIPv6:])).Unmap(), port)
}

// set makes it the address of a destination, as a socket of that family takes it; it says how long it is: zero where the
// socket has no way there.
func (a *address) set(family int, to netip.AddrPort) (length int) {
	binary.NativeEndian.PutUint16(a[:], uint16(family))
	binary.BigEndian.PutUint16(a[atPort:], to.Port())
	addr := to.Addr()
	switch {
	case family == unix.AF_INET6 && addr.IsValid():
		*(*[16]byte)(a[atIPv6:]) = addr.As16()
		return unix.SizeofSockaddrInet6
	case family == unix.AF_INET && addr.Unmap().Is4():
		*(*[4]byte)(a[atIPv4:]) = addr.Unmap().As4()
		return unix.SizeofSockaddrInet4
	}
	return 0
}
