package relay

import (
	"errors"
	"fmt"
	"math/bits"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// socketBuffer is how much the kernel keeps for a relay that does not get to run. It counts whole pages.
	socketBuffer = 64 << 20
	etherTypeAll = unix.ETH_P_ALL
)

// port is a packet socket on one interface, which stays in the namespace where it was opened. It does not block.
type port struct {
	name  string
	index int
	fd    int
	lost  atomic.Uint64 // frames that found the socket's buffer full
	down  bool          // the interface was, and no frame has come since; owned by the reader
}

// openPort opens a port on an interface of the thread's namespace.
func openPort(name string) (*port, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("relay: interface %s: %w", name, err)
	}
	// Protocol 0: the socket hears nothing before it is bound to its interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("%w: run it as root", ErrPrivilege)
	}
	if err != nil {
		return nil, fmt.Errorf("relay: packet socket: %w", err)
	}
	p := &port{name: name, index: device.Index, fd: fd}
	if err := p.setUp(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// setUp makes the socket hear all that comes in, whoever it is for, and nothing that goes out.
func (p *port) setUp() error {
	options := []struct {
		name                 string
		level, option, value int
	}{
		{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer},
		{"SO_SNDBUFFORCE", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer},
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(p.fd, o.level, o.option, o.value); err != nil {
			return fmt.Errorf("relay: %s on %s: %w", o.name, p.name, err)
		}
	}
	all := unix.PacketMreq{Ifindex: int32(p.index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(p.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &all); err != nil {
		return fmt.Errorf("relay: promiscuous mode on %s: %w", p.name, err)
	}
	network := bits.ReverseBytes16(etherTypeAll)
	if err := unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: p.index}); err != nil {
		return fmt.Errorf("relay: bind to %s: %w", p.name, err)
	}
	return nil
}

// read gives one frame in b, or 0 where there is none now.
func (p *port) read(b []byte) int {
	n, err := unix.Read(p.fd, b)
	if err != nil { // EAGAIN, EINTR, or EINVAL for an offload that this kernel cannot describe
		p.down = p.down || errors.Is(err, unix.ENETDOWN)
		return 0
	}
	p.down = false
	return n
}

// write sends one frame, waiting where the kernel has no room for it, and says whether it took it.
func (p *port) write(frame []byte) bool {
	for {
		_, err := unix.Write(p.fd, frame)
		switch {
		case err == nil:
			return true
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if !p.writable() {
				return false
			}
		default:
			return false // down, gone, or longer than its MTU
		}
	}
}

// writable waits for room in the socket's buffer, a second at most.
func (p *port) writable() bool {
	n, _ := poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLOUT}}, time.Second)
	return n > 0
}

// poll is ppoll(2); a negative timeout is none.
func poll(fds []unix.PollFd, timeout time.Duration) (int, error) {
	if timeout < 0 {
		return unix.Ppoll(fds, nil, nil)
	}
	left := unix.NsecToTimespec(int64(timeout))
	return unix.Ppoll(fds, &left, nil)
}

// gone returns ErrGone if the interface has been deleted, or moved elsewhere. The kernel tells that it goes down, and
// maybe before it is deleted, so a reader asks until it hears a frame again.
func (p *port) gone() error {
	if !p.down {
		return nil
	}
	request, err := unix.NewIfreq(p.name)
	if err == nil {
		err = unix.IoctlIfreq(p.fd, unix.SIOCGIFINDEX, request)
	}
	if err != nil || int(request.Uint32()) != p.index {
		return fmt.Errorf("%w: %s", ErrGone, p.name)
	}
	return nil
}

// missed counts the frames that the kernel could not keep for us. The kernel forgets its count when it is read.
func (p *port) missed() uint64 {
	if stats, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		p.lost.Add(uint64(stats.Drops))
	}
	return p.lost.Load()
}

func (p *port) close() { unix.Close(p.fd) }
