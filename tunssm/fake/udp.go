package fake

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ssmnet/packet"
)

const (
	socketBuffer = 4096 // sends that one socket keeps for its reader
	maxArrivals  = 8    // deliveries that one TryReceive takes
)

var errAddress = errors.New("fake: no address to send to")

// UDP is a socket on a Network.
type UDP struct {
	network  *Network
	addr     netip.AddrPort // under network.mu
	arrivals chan arrival
	stopped  chan struct{}
	fail     chan error
	once     sync.Once
	closed   atomic.Bool
	ready    ready
	most     int // bytes of a datagram in one piece; 0 for any. Under network.mu
}

// arrival is one delivery: datagrams of segment bytes from one source, the last may be shorter.
type arrival struct {
	src     netip.AddrPort
	payload []byte
	segment int
}

func (n *Network) socket(addr netip.AddrPort, r ready) *UDP {
	u := &UDP{
		network: n, addr: addr, arrivals: make(chan arrival, socketBuffer), stopped: make(chan struct{}),
		fail: make(chan error, 1), ready: r,
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

// Fail makes the next TryReceive return err.
func (u *UDP) Fail(err error) {
	u.fail <- err
	u.ready.signal()
}

// TryReceive takes what has come.
func (u *UDP) TryReceive() (batch []packet.Datagrams, err error) {
	for len(batch) < maxArrivals {
		select {
		case a := <-u.arrivals:
			batch = append(batch, a.datagrams())
			continue
		default:
		}
		break
	}
	if len(batch) > 0 {
		return batch, nil
	}
	select {
	case err := <-u.fail:
		return nil, err
	case <-u.stopped:
		return nil, net.ErrClosed
	default:
		return nil, nil
	}
}

func (a arrival) datagrams() packet.Datagrams {
	return packet.Datagrams{Pieces: [][]byte{a.payload}, Segment: a.segment, Addr: a.src}
}

// Send sends each, as the kernel would.
func (u *UDP) Send(batch []packet.Datagrams, refused func(int, error)) {
	for i, d := range batch {
		if err := u.send(d); err != nil && refused != nil {
			refused(i, err)
		}
	}
}

func (u *UDP) send(d packet.Datagrams) error {
	if u.closed.Load() {
		return net.ErrClosed
	}
	if !d.Addr.IsValid() || d.Addr.Port() == 0 {
		return errAddress
	}
	b := bytes.Join(d.Pieces, nil)
	longest := len(b)
	if d.Segment > 0 {
		longest = min(longest, d.Segment)
	}
	if most := u.known(); most > 0 && longest > most {
		return syscall.EMSGSIZE
	}
	u.network.send(u.Addr(), d.Addr, b, d.Segment, false)
	return nil
}

// SendFragmented is Send whatever the kernel knows.
func (u *UDP) SendFragmented(d packet.Datagrams) error {
	u.network.send(u.Addr(), d.Addr, bytes.Join(d.Pieces, nil), d.Segment, true)
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

// Stop ends receiving, and wakes who waits for it.
func (u *UDP) Stop() {
	u.once.Do(func() { close(u.stopped) })
	u.ready.signal()
}

// Close frees the address.
func (u *UDP) Close() error {
	u.Stop()
	if u.closed.Swap(true) {
		return nil
	}
	u.network.mu.Lock()
	defer u.network.mu.Unlock()
	delete(u.network.sockets, u.addr)
	return nil
}
