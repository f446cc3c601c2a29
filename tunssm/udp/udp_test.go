package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

// TestPortTaken: by one of ours, by an IPv4-only socket, and ports that are not for everybody.
func TestPortTaken(t *testing.T) {
	ours := func(t *testing.T) uint16 { return listenOn(t, 0).LocalPort() }
	ipv4 := func(t *testing.T) uint16 {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return uint16(conn.LocalAddr().(*net.UDPAddr).Port)
	}
	low := func(t *testing.T) uint16 { space.Drop(t, unix.CAP_NET_BIND_SERVICE); return 500 }
	for _, c := range []struct {
		name   string
		occupy func(*testing.T) uint16
		want   error
	}{{"ours", ours, ErrTaken}, {"IPv4 only", ipv4, ErrTaken}, {"privileged", low, ErrPrivilege}} {
		t.Run(c.name, func(t *testing.T) {
			space.Enter(t)
			port := c.occupy(t)
			conn, err := Listen(port, 1)
			if !errors.Is(err, c.want) {
				t.Fatalf("Listen = %v, %v; want %v", conn, err, c.want)
			}
			for _, s := range []string{strconv.Itoa(int(port)), "--listen"} {
				if !strings.Contains(err.Error(), s) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q: want one line with %q", err, s)
				}
			}
		})
	}
}

func TestOptions(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 7601)
	if c.LocalPort() != 7601 {
		t.Errorf("port %d, want 7601", c.LocalPort())
	}
	for _, o := range []struct {
		name                string
		level, number, want int
	}{
		{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0},
		{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO},
		{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO},
		{"UDP_GRO", unix.IPPROTO_UDP, unix.UDP_GRO, 1},
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 2 * receiveBuffer}, // the kernel doubles it for its own use
		{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 0},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * sendBuffer},
	} {
		if got := option(t, c, o.level, o.number); got != o.want {
			t.Errorf("%s = %d, want %d", o.name, got, o.want)
		}
	}
}

// TestUnprivileged: without CAP_NET_ADMIN the buffers are what the host allows, and all else works.
func TestUnprivileged(t *testing.T) {
	space.Enter(t)
	space.Drop(t, unix.CAP_NET_ADMIN)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	b := frames(20, 1300, 1300)
	if err := send(c, datagrams(b, 1300, self)); err != nil {
		t.Fatal(err)
	}
	got, _ := receiveAll(t, c, len(b), self)
	checkFrames(t, got, b, 1300)
}

// TestIPv6Disabled: the kernel has IPv6 and the host has it switched off.
func TestIPv6Disabled(t *testing.T) {
	space.Enter(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalPort())
	if err := send(c, datagrams([]byte("x"), 0, self)); err != nil {
		t.Fatal(err)
	}
	if got, src := receiveOne(t, c); string(got) != "x" || src != self {
		t.Errorf("received %q from %s; want x from %s", got, src, self)
	}
}

// TestStop looks at a receive that waits, one that comes later, at sends, and what is left after Close.
func TestStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	space.Enter(t)
	before := space.Descriptors(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	result := make(chan error)
	go func() {
		_, err := c.Receive()
		result <- err
	}()
	for !space.Waits("Receive") {
		runtime.Gosched()
	}
	for range 2 {
		c.Stop()
	}
	if err := <-result; !errors.Is(err, net.ErrClosed) {
		t.Errorf("waiting receive: %v, want net.ErrClosed", err)
	}
	if err := send(c, datagrams(make([]byte, 50), 10, self)); err != nil {
		t.Errorf("send after Stop: %v", err)
	}
	for range 2 {
		if _, err := c.Receive(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("later receive: %v, want net.ErrClosed", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		c.Stop()
		for _, segment := range []int{0, 10} {
			if err := send(c, datagrams(make([]byte, 50), segment, self)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("send: %v, want net.ErrClosed", err)
			}
			if err := c.SendFragmented(datagrams(make([]byte, 50), segment, self)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("send in fragments: %v, want net.ErrClosed", err)
			}
		}
	}
	if after := space.Descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	listenOn(t, c.LocalPort()) // the port is free again
}

// TestFullSocket: a network that does not take what is sent holds nobody up: what has no room is refused.
func TestFullSocket(t *testing.T) {
	inFirst, inSecond := veth(t)
	inSecond()
	to := listenOn(t, 0)
	inFirst()
	space.Run(t, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8kbit", "burst", "2000", "limit", "100m")
	c := listenOn(t, 0)
	d := datagrams(frames(44, 1452, 1452), 1452, netip.AddrPortFrom(netip.MustParseAddr("10.77.0.2"), to.LocalPort()))
	const elements = 200 // far more than the send buffer takes
	refused := 0
	c.Send(slices.Repeat([]packet.Datagrams{d}, elements), func(i int, err error) {
		if refused++; !errors.Is(err, unix.EAGAIN) {
			t.Errorf("element %d: %v, want EAGAIN", i, err)
		}
	})
	if refused == 0 || refused == elements {
		t.Errorf("%d of %d elements were refused", refused, elements)
	}
}
