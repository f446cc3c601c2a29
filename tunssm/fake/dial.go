package fake

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Listener takes the connections to one address of a Network.
type Listener struct {
	network *Network
	address string
	pending chan net.Conn
	closed  chan struct{}
	once    sync.Once
	mu      sync.Mutex
	conns   map[net.Conn]bool // the dialers' ends that are open
}

// Listen takes connections to address, HOST:PORT. An address is free again once its listener is closed.
func (n *Network) Listen(address string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[address] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: name(address), Err: syscall.EADDRINUSE}
	}
	l := &Listener{network: n, address: address, pending: make(chan net.Conn), closed: make(chan struct{}),
		conns: map[net.Conn]bool{}}
	n.listeners[address] = l
	return l, nil
}

// Refuse makes dialing address fail, or no longer. It leaves connections alone: see Cut.
func (n *Network) Refuse(address string, refuse bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused[address] = refuse
}

// Cut ends every connection to address.
func (n *Network) Cut(address string) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	conns := maps.Clone(l.conns)
	clear(l.conns)
	l.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Dial connects the host to a listener, which sees the host's underlay address and a port of its own.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	n := h.network
	n.mu.Lock()
	l := n.listeners[address]
	if n.refused[address] {
		l = nil
	}
	n.port++
	from := netip.AddrPortFrom(h.UDP.addr.Addr(), n.port)
	n.mu.Unlock()
	fault := &net.OpError{Op: "dial", Net: "tcp", Addr: name(address), Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, fault
	}
	near, far := net.Pipe()
	local, remote := net.Addr(net.TCPAddrFromAddrPort(from)), l.Addr()
	select {
	case l.pending <- conn{far, remote, local, func() {}}:
	case <-l.closed:
		return nil, errors.Join(fault, near.Close(), far.Close())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), near.Close(), far.Close())
	}
	l.mu.Lock()
	l.conns[near] = true
	l.mu.Unlock()
	return conn{near, local, remote, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, near)
	}}, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.pending:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr is a *net.TCPAddr where the address is one in numbers.
func (l *Listener) Addr() net.Addr {
	if a, err := netip.ParseAddrPort(l.address); err == nil {
		return net.TCPAddrFromAddrPort(a)
	}
	return name(l.address)
}

// Close ends the listener, not its connections.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, l.address)
	})
	return nil
}

// conn is one end of a connection, with addresses.
type conn struct {
	net.Conn
	local, remote net.Addr
	ended         func()
}

func (c conn) Close() error {
	c.ended()
	return c.Conn.Close()
}

func (c conn) LocalAddr() net.Addr  { return c.local }
func (c conn) RemoteAddr() net.Addr { return c.remote }

// name is the address of a host that has a name.
type name string

func (name) Network() string  { return "tcp" }
func (a name) String() string { return string(a) }
