package route

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
)

// TestCandidates: which addresses of which interfaces, in which order.
func TestCandidates(t *testing.T) {
	space.Enter(t, space.TUN)
	want := func(what, exclude string, addrs ...string) {
		t.Helper()
		got, err := Candidates(exclude)
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
	space.Bridge(t, "lan0", "192.168.7.1/24", "192.168.7.2/24", "fe80::7/64", "169.254.1.1/16", "fd07::1/64")
	space.Bridge(t, "tun0", "10.90.0.1/24", "fd90::1/64")
	want("one interface", "tun0", "192.168.7.1", "fd07::1", "192.168.7.2")
	uplink := space.Bridge(t, "wan0", "198.51.100.1/24", "2001:db8::1/64")
	route := &netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.IPv4(198, 51, 100, 254)}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	want("uplink first", "tun0", "198.51.100.1", "2001:db8::1", "192.168.7.1", "fd07::1", "192.168.7.2")
	want("nothing excluded", "", "198.51.100.1", "2001:db8::1", "192.168.7.1", "fd07::1", "10.90.0.1", "fd90::1",
		"192.168.7.2")
	for _, a := range []string{"203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32"} {
		space.Up(t, "wan0", a)
	}
	want("many", "tun0", "198.51.100.1", "2001:db8::1", "192.168.7.1", "fd07::1",
		"203.0.113.1", "192.168.7.2", "203.0.113.2", "203.0.113.3", "203.0.113.4")
	if err := netlink.LinkSetDown(uplink); err != nil {
		t.Fatal(err)
	}
	want("uplink down", "tun0", "192.168.7.1", "fd07::1", "192.168.7.2")
}
