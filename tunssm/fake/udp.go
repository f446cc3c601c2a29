package fake

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// socketBuffer is how many sends one socket keeps for its reader.
const socketBuffer = 4096

var errAddress = errors.New("fake: no address to send to")

// UDP is a socket on a Network.
type UDP struct {
	network  *Network
	addr     netip.AddrPort // under network.mu
	arrivals chan arrival
	closed   chan struct{}
	fail     chan error
	once     sync.Once
	most     int // bytes of a datagram in one piece; 0 for any. Under network.mu
}

// arrival is one delivery: datagrams of segment bytes from one source, the last may be shorter.
type arrival struct {
	src     netip.AddrPort
	payload []byte
	segment int
}

func (n *Network) socket(addr netip.AddrPort) *UDP {
	u := &UDP{
		network: n, addr: addr, arrivals: make(chan arrival, socketBuffer), closed: make(chan struct{}),
		fail: make(chan error, 1),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[addr] != nil {
		panic("fake: " + addr.String() + " is taken")
	}
	n.sockets[addr] = u
	return u
}

// LocalPort is the port it is bound to.
func (u *UDP) LocalPort() uint16 { return u.Addr().Port() }

// Addr is the address it is bound to.
func (u *UDP) Addr() netip.AddrPort {
	u.network.mu.Lock()
	defer u.network.mu.Unlock()
	return u.addr
}

// Move binds the socket to another address, as a host that roams does.
func (u *UDP) Move(addr netip.AddrPort) {
	u.network.mu.Lock()
	defer u.network.mu.Unlock()
	delete(u.network.sockets, u.addr)
	u.addr = addr
	u.network.sockets[addr] = u
}

// Fail makes the next Receive return err.
func (u *UDP) Fail(err error) { u.fail <- err }

// Receive waits for one delivery.
func (u *UDP) Receive(b []byte) (n, segment int, src netip.AddrPort, err error) {
	select {
	case a := <-u.arrivals:
		return copy(b, a.payload), a.segment, a.src, nil
	case err := <-u.fail:
		return 0, 0, netip.AddrPort{}, err
	case <-u.closed:
		return 0, 0, netip.AddrPort{}, net.ErrClosed
	}
}

// Send sends b as datagrams of segment bytes, the last may be shorter; an empty b is one empty datagram.
func (u *UDP) Send(b []byte, segment int, dst netip.AddrPort) error {
	select {
	case <-u.closed:
		return net.ErrClosed
	default:
	}
	if !dst.IsValid() || dst.Port() == 0 {
		return errAddress
	}
	longest := len(b)
	if segment > 0 {
		longest = min(longest, segment)
	}
	if most := u.known(); most > 0 && longest > most {
		return syscall.EMSGSIZE
	}
	u.network.send(u.Addr(), dst, b, segment, false)
	return nil
}

// SendFragmented is Send whatever the kernel knows.
func (u *UDP) SendFragmented(b []byte, segment int, dst netip.AddrPort) error {
	u.network.send(u.Addr(), dst, b, segment, true)
	return nil
}

// Know makes Send refuse datagrams of more than so many bytes, as a kernel does that knows the path; 0 ends that.
func (u *UDP) Know(most int) {
	u.network.mu.Lock()
	defer u.network.mu.Unlock()
	u.most = most
}

func (u *UDP) known() int {
	u.network.mu.Lock()
	defer u.network.mu.Unlock()
	return u.most
}

// Forge makes a datagram arrive here as if src had sent it. It is not recorded as sent.
func (u *UDP) Forge(src netip.AddrPort, payload []byte) {
	u.network.deliver(u.Addr(), arrival{src, payload, len(payload)})
}

// Close wakes a waiting Receive and frees the address.
func (u *UDP) Close() error {
	u.once.Do(func() {
		close(u.closed)
		u.network.mu.Lock()
		defer u.network.mu.Unlock()
		delete(u.network.sockets, u.addr)
	})
	return nil
}
