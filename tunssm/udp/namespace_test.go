package udp

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

// veth joins two new namespaces by a cable, eth0 at both ends with .1 and .2 of 10.77.0.0/24 and fd77::/64, and returns
// how to enter each.
func veth(t testing.TB) (inFirst, inSecond func()) {
	t.Helper()
	space.Enter(t)
	_, inFirst = space.Stay(t)
	space.Enter(t)
	second, inSecond := space.Stay(t)
	inFirst()
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0",
		PeerNamespace: netlink.NsFd(second.Fd())}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	space.Up(t, "eth0", "10.77.0.1/24", "fd77::1/64")
	inSecond()
	space.Up(t, "eth0", "10.77.0.2/24", "fd77::2/64")
	return inFirst, inSecond
}

// listenOn opens a socket in the thread's namespace for the time of the test.
func listenOn(t testing.TB, port uint16) *Conn { return shareOn(t, port, 1)[0] }

// shareOn opens several that share the port.
func shareOn(t testing.TB, port uint16, sockets int) []*Conn {
	t.Helper()
	all, err := Listen(port, sockets)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		t.Cleanup(func() { c.Close() })
	}
	if len(all) != sockets {
		t.Fatalf("%d sockets, want %d", len(all), sockets)
	}
	return all
}

// option reads a socket option.
func option(t testing.TB, c *Conn, level, name int) int {
	t.Helper()
	var value int
	err := c.raw.Control(func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, level, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
