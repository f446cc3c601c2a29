// Package udp is the SSM's underlay socket: frames out with UDP_SEGMENT, frames in with UDP_GRO, and both in batches.
//
//	Send        one sendmmsg   | datagrams | datagrams | ... |   each to one destination
//	TryReceive  one recvmmsg   | datagrams | datagrams | ... |   each from one source
//
//	datagrams                  | frame | frame | ... | last, shorter or equal |
//
// One socket serves both families: IPv6 with IPV6_V6ONLY off, or IPv4 alone where the host has no IPv6. Addresses are
// unmapped on the way out to callers and mapped on the way in.
//
// Where several sockets share the port, each receives the lanes (package packet) that are its index, modulo their number.
// The kernel steers datagrams by that byte of theirs, so that frames of one lane stay in order. What is too short to have
// it comes to the first. Each is to send lanes of its own: the kernel does not join what several have sent.
//
// Receiving never waits; who has nothing else to do waits for the Descriptor (package raw). Sending waits a moment where the
// socket is full. Stop wakes both for good; Close follows once nobody uses the socket any more.
//
// # Don't fragment
//
// Send sends with DF set, and never what is longer than the kernel knows the path to carry (IP_PMTUDISC_DO): by the
// interface, by a route's MTU, or by what a router has said (RFC 1191, RFC 8201). Such frames are refused, ErrTooBig, so
// that the SSM learns the path's MTU, and what is sent as a probe of a size is that long on the wire or is not sent.
//
// SendFragmented is for what must go nevertheless. The kernel fragments it to what it knows of the path; over IPv4 DF is
// clear (IP_PMTUDISC_DONT), so that routers may fragment it further; over IPv6 only the sender can, so there the kernel
// must have been told the path's MTU. A socket has one such mode at a time, and senders take turns anyway. It goes frame by
// frame, since the kernel does not fragment segments.
//
// # Where the kernel does not segment
//
// Frames go one by one, still many with one sendmmsg: where the kernel has no UDP_SEGMENT (before Linux 4.18), and towards
// addresses where it has said that the network card cannot take them so (EIO), which a bounded set remembers.
package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"ssmnet/tunssm/raw"
)

const (
	// receiveBuffer bounds the frames that stand in the socket while inbound does not run. 4 MiB are 6 ms at
	// 5 Gb/s, about what a busy two-core host can keep a thread from running. More would only be a longer standing
	// queue: senders that fill whatever they find would see it as latency.
	receiveBuffer = 4 << 20
	// sendBuffer holds about a dozen full sends. It only has to cover the hand-over to the network card: once it is
	// full, Send waits, and the queue stands in the TUN, where the kernel's flow control and AQM see it.
	sendBuffer = 1 << 20
)

// Conn is one UDP socket. One goroutine receives at a time; any number send.
type Conn struct {
	raw    *raw.Descriptor
	family int
	port   uint16
	inbox  inbox // the receiver's

	// sending guards the socket's mode, which is whole but inside SendFragmented, and what follows.
	sending  sync.Mutex
	outbox   outbox
	segments bool                    // the kernel has UDP_SEGMENT
	singly   map[netip.Addr]struct{} // where it refuses to segment for good; maxSingly at most
}

// Listen binds port on all addresses of the calling thread's network namespace with so many sockets; 0 lets the kernel
// choose the port. Errors are ErrTaken, ErrPrivilege, or what the kernel said.
func Listen(port uint16, sockets int) ([]*Conn, error) {
	first, err := listen(port, unix.AF_INET6, false)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // no IPv6 here, or it is disabled
		first, err = listen(port, unix.AF_INET, false)
	}
	if err != nil {
		return nil, err
	}
	all := []*Conn{first}
	if sockets > 1 {
		all, err = share(first, sockets)
	}
	if err != nil {
		for _, c := range all {
			c.Close()
		}
		return nil, err
	}
	return all, nil
}

func listen(port uint16, family int, shared bool) (*Conn, error) {
	fd, err := bind(port, family, shared)
	if err != nil {
		return nil, err
	}
	c := &Conn{family: family, singly: map[netip.Addr]struct{}{}}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("udp: listen on port %d: %w", port, err)
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet6:
		c.port = uint16(a.Port)
	case *unix.SockaddrInet4:
		c.port = uint16(a.Port)
	}
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	c.segments = err == nil
	c.inbox.init()
	c.raw, err = raw.New(fd)
	return c, err
}

// bind opens a socket with its options and binds it; shared, where there is one of ours that shares the port.
func bind(port uint16, family int, shared bool) (int, error) {
	var address unix.Sockaddr = &unix.SockaddrInet6{Port: int(port)}
	if family == unix.AF_INET {
		address = &unix.SockaddrInet4{Port: int(port)}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("udp: open a socket: %w", err)
	}
	err = setOptions(fd, family)
	if err == nil && shared {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, address)
	}
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return -1, fmt.Errorf("%w: another program has UDP port %d; choose another with --listen", ErrTaken, port)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("%w: %d; choose one above 1023 with --listen, or run with sudo", ErrPrivilege, port)
	}
	return -1, fmt.Errorf("udp: listen on port %d: %w", port, err)
}

// setOptions sets what the socket must have, and asks for what it can do without: buffers and GRO.
func setOptions(fd, family int) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return err
		}
	}
	if err := whole.set(fd, family); err != nil {
		return err
	}
	setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer)
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) // before Linux 5.0: datagrams arrive singly
	return nil
}

// discovery is what becomes of a datagram that is longer than its path (ip(7), IP_MTU_DISCOVER), by address family.
type discovery struct{ ipv4, ipv6 int }

var (
	whole      = discovery{unix.IP_PMTUDISC_DO, unix.IPV6_PMTUDISC_DO}
	fragmented = discovery{unix.IP_PMTUDISC_DONT, unix.IPV6_PMTUDISC_WANT}
)

func (d discovery) set(fd, family int) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, d.ipv4)
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, d.ipv6)
	}
	return err
}

// setBuffer sizes a socket buffer: beyond the host's limit with CAP_NET_ADMIN, else up to it.
func setBuffer(fd, force, polite, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, polite, size)
	}
}

// LocalPort is the port the socket is bound to.
func (c *Conn) LocalPort() uint16 { return c.port }

// Stop wakes who waits to receive or to send; TryReceive returns net.ErrClosed from then on. Any goroutine may call it, at
// any time. What need not wait still goes.
func (c *Conn) Stop() { c.raw.Stop() }

// Close closes the socket, once nobody uses it any more. Closing twice does nothing more.
func (c *Conn) Close() error { return c.raw.Close() }
