package netns

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// patience is the deadline of traffic that must come through.
const patience = 20 * time.Second

// at is HOST:PORT of a host's overlay address.
func (h *Host) at(family, port int) string {
	return net.JoinHostPort(h.address(family), strconv.Itoa(port))
}

// dial connects from the host: a TCP connection, or a connected UDP socket.
func (h *Host) dial(t *testing.T, network, address string) (conn net.Conn, err error) {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	h.in(t, func() { conn, err = d.Dial(network, address) })
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// mustDial is dial where nothing may stand in the way.
func (h *Host) mustDial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	conn, err := h.dial(t, network, address)
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return conn
}

// listen waits for TCP connections on an overlay address of the host, and gives each to serve.
func (h *Host) listen(t *testing.T, family, port int, serve func(net.Conn)) {
	t.Helper()
	var l net.Listener
	var err error
	h.in(t, func() { l, err = net.Listen("tcp", h.at(family, port)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go serve(conn)
		}
	}()
}

// packets opens a UDP socket on an overlay address of the host.
func (h *Host) packets(t *testing.T, family, port int) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	var err error
	local := netip.AddrPortFrom(h.V4, uint16(port))
	if family == 6 {
		local = netip.AddrPortFrom(h.V6, uint16(port))
	}
	h.in(t, func() { conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(local)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// echo returns every datagram to its sender, until the socket it gives is closed.
func (h *Host) echo(t *testing.T, family, port int) *net.UDPConn {
	t.Helper()
	conn := h.packets(t, family, port)
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return // closed
			}
			conn.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	return conn
}
