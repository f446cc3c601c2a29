package udp

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enterNamespace gives the test's thread an empty network namespace. The thread ends with the test's goroutine.
func enterNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (these tests need root): %v", err)
	}
	up(t, "lo")
}

// up brings an interface up, with the given addresses, and returns it.
func up(t testing.TB, name string, addresses ...string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		address, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if address.IP.To4() == nil {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			t.Fatal(err)
		}
		awaitLocal(t, address)
	}
	return link
}

// awaitLocal waits until the kernel takes packets for the address, which for IPv6 it arranges in its own time.
func awaitLocal(t testing.TB, address *netlink.Addr) {
	t.Helper()
	for !address.IP.IsLinkLocalUnicast() {
		routes, err := netlink.RouteGet(address.IP)
		if err == nil && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		if err != nil && !errors.Is(err, unix.ENETUNREACH) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// addBridge makes an interface without a wire.
func addBridge(t testing.TB, name string, addresses ...string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		t.Fatal(err)
	}
	return up(t, name, addresses...)
}

// veth joins two new namespaces by a cable, eth0 at both ends with .1 and .2 of 10.77.0.0/24 and fd77::/64, and returns
// how to enter each.
func veth(t testing.TB) (inFirst, inSecond func()) {
	t.Helper()
	first := namespace(t)
	second := namespace(t)
	enter(t, first)
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0",
		PeerNamespace: netlink.NsFd(second.Fd())}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	up(t, "eth0", "10.77.0.1/24", "fd77::1/64")
	enter(t, second)
	up(t, "eth0", "10.77.0.2/24", "fd77::2/64")
	return func() { enter(t, first) }, func() { enter(t, second) }
}

// namespace makes one, enters it, and keeps it for the test.
func namespace(t testing.TB) *os.File {
	t.Helper()
	enterNamespace(t)
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func enter(t testing.TB, namespace *os.File) {
	t.Helper()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// listenOn opens a socket in the thread's namespace for the time of the test.
func listenOn(t testing.TB, port uint16) *Conn {
	t.Helper()
	c, err := Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dropCapability takes it from the test's thread alone, which ends with the test.
func dropCapability(t testing.TB, capability int) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << capability
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

// option reads a socket option.
func option(t testing.TB, c *Conn, level, name int) int {
	t.Helper()
	raw, err := c.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	controlErr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, name) })
	if controlErr != nil || err != nil {
		t.Fatal(controlErr, err)
	}
	return value
}
