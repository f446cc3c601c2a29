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

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
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
	low := func(t *testing.T) uint16 { dropCapability(t, unix.CAP_NET_BIND_SERVICE); return 500 }
	for _, c := range []struct {
		name   string
		occupy func(*testing.T) uint16
		want   error
	}{{"ours", ours, ErrTaken}, {"IPv4 only", ipv4, ErrTaken}, {"privileged", low, ErrPrivilege}} {
		t.Run(c.name, func(t *testing.T) {
			enterNamespace(t)
			port := c.occupy(t)
			conn, err := Listen(port)
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
	enterNamespace(t)
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
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 2 * sendBuffer},
	} {
		if got := option(t, c, o.level, o.number); got != o.want {
			t.Errorf("%s = %d, want %d", o.name, got, o.want)
		}
	}
}

// TestUnprivileged: without CAP_NET_ADMIN the buffers are what the host allows, and all else works.
func TestUnprivileged(t *testing.T) {
	enterNamespace(t)
	dropCapability(t, unix.CAP_NET_ADMIN)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	b := frames(20, 1300, 1300)
	if err := c.Send(b, 1300, self); err != nil {
		t.Fatal(err)
	}
	got, _ := receiveAll(t, c, len(b), self)
	checkFrames(t, got, b, 1300)
}

// TestIPv6Disabled: the kernel has IPv6 and the host has it switched off.
func TestIPv6Disabled(t *testing.T) {
	enterNamespace(t)
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalPort())
	if err := c.Send([]byte("x"), 0, self); err != nil {
		t.Fatal(err)
	}
	if n, _, src, err := c.Receive(make([]byte, MaxBatch)); n != 1 || src != self || err != nil {
		t.Errorf("Receive = %d, %s, %v; want 1 from %s", n, src, err, self)
	}
}

func TestClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	enterNamespace(t)
	c := listenOn(t, 0)
	result := make(chan error)
	for _, when := range []string{"waiting", "later"} {
		go func() {
			_, _, _, err := c.Receive(make([]byte, MaxBatch))
			result <- err
		}()
		for when == "waiting" && !receiveWaits() {
			runtime.Gosched()
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s receive: %v, want net.ErrClosed", when, err)
		}
	}
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	for _, segment := range []int{0, 10} {
		if err := c.Send(make([]byte, 50), segment, self); !errors.Is(err, net.ErrClosed) {
			t.Errorf("send: %v, want net.ErrClosed", err)
		}
	}
	listenOn(t, c.LocalPort()) // the port is free again
}

// receiveWaits says whether some goroutine is parked in Receive.
func receiveWaits() bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, s := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(s, "Receive") && strings.Contains(s, "[IO wait") {
			return true
		}
	}
	return false
}

func TestLocalAddresses(t *testing.T) {
	enterNamespace(t)
	want := func(what, exclude string, addrs ...string) {
		t.Helper()
		got, err := LocalAddresses(exclude)
		if err != nil {
			t.Fatal(err)
		}
		wanted := make([]netip.Addr, 0, len(addrs))
		for _, a := range addrs {
			wanted = append(wanted, netip.MustParseAddr(a))
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("%s: %v, want %v", what, got, wanted)
		}
	}
	want("loopback only", "tun0")
	addBridge(t, "lan0", "192.168.7.1/24", "192.168.7.2/24", "fe80::7/64", "169.254.1.1/16", "fd07::1/64")
	addBridge(t, "tun0", "10.90.0.1/24", "fd90::1/64")
	want("one interface", "tun0", "192.168.7.1", "fd07::1", "192.168.7.2")
	uplink := addBridge(t, "wan0", "198.51.100.1/24", "2001:db8::1/64")
	route := &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.IPv4(198, 51, 100, 254)}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	want("uplink first", "tun0", "198.51.100.1", "2001:db8::1", "192.168.7.1", "fd07::1", "192.168.7.2")
	want("nothing excluded", "", "198.51.100.1", "2001:db8::1", "192.168.7.1", "fd07::1", "10.90.0.1", "fd90::1",
		"192.168.7.2")
	for _, a := range []string{"203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32"} {
		up(t, "wan0", a)
	}
	want("many", "tun0", "198.51.100.1", "2001:db8::1", "192.168.7.1", "fd07::1",
		"203.0.113.1", "192.168.7.2", "203.0.113.2", "203.0.113.3")
	if err := netlink.LinkSetDown(uplink); err != nil {
		t.Fatal(err)
	}
	want("uplink down", "tun0", "192.168.7.1", "fd07::1", "192.168.7.2")
}
