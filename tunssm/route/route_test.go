package route

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/tun"
)

func openTUN(t testing.TB, name string) *tun.Queue {
	t.Helper()
	queues, err := tun.Open(name, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { queues[0].Close() })
	return queues[0]
}

func TestRoutes(t *testing.T) {
	space.Enter(t, space.TUN)
	d := openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/32", "fd90::1/128"), 1420); err != nil {
		t.Fatal(err)
	}
	lan := space.Bridge(t, "lan0", "192.168.7.1/24")
	space.Route(t, netlink.Route{LinkIndex: lan.Attrs().Index, Priority: metric}, "10.99.0.0/16")
	list := func(want ...string) {
		t.Helper()
		got, err := List("tun0")
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, netip.Prefix.Compare)
		if !slices.Equal(got, space.Prefixes(want...)) {
			t.Errorf("List = %v, want %v", got, want)
		}
	}
	list()
	for range 2 { // the second time changes nothing
		for _, p := range space.Prefixes("10.90.0.0/24", "10.92.0.77/16", "fd90::/64", "2001:db8::5/128") {
			if err := Add("tun0", p); err != nil {
				t.Fatal(err)
			}
		}
		list("10.90.0.0/24", "10.92.0.0/16", "2001:db8::5/128", "fd90::/64")
	}
	if err := Add("tun0", space.Prefixes("10.99.0.0/16")[0]); !errors.Is(err, ErrConflict) {
		t.Errorf("Add of what the LAN has with our metric: %v, want ErrConflict", err)
	}
	sources := map[string]string{"10.90.0.9": "10.90.0.1", "10.92.255.1": "10.90.0.1", "fd90::9": "fd90::1"}
	for dst, src := range sources {
		if got, err := SourceFor(netip.MustParseAddr(dst)); err != nil || got.String() != src {
			t.Errorf("source for %s is %v, %v; want %s", dst, got, err, src)
		}
	}
	for range 2 {
		for _, p := range space.Prefixes("10.92.0.0/16", "fd90::/64", "10.1.0.0/16") {
			if err := Del("tun0", p); err != nil {
				t.Fatal(err)
			}
		}
		list("10.90.0.0/24", "2001:db8::5/128")
	}
	d.Close()
	if _, err := List("tun0"); !errors.Is(err, ErrNoInterface) {
		t.Errorf("List without interface: %v, want ErrNoInterface", err)
	}
	if err := Add("tun0", space.Prefixes("10.90.0.0/24")[0]); !errors.Is(err, ErrNoInterface) {
		t.Errorf("Add without interface: %v, want ErrNoInterface", err)
	}
	if err := Del("tun0", space.Prefixes("10.90.0.0/24")[0]); err != nil {
		t.Errorf("Del without interface: %v", err)
	}
}

// TestUndone: after the interface has gone, addresses, routes and links are what they were before it came.
func TestUndone(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Up(t, "lo", "192.168.7.1/24")
	before := state(t)
	d := openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/24", "fd90::1/64"), 1420); err != nil {
		t.Fatal(err)
	}
	for _, p := range space.Prefixes("10.92.0.0/16", "fd92::/48") {
		if err := Add("tun0", p); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Equal(state(t), before) {
		t.Fatal("nothing was changed in the first place")
	}
	d.Close()
	if after := state(t); !slices.Equal(after, before) {
		t.Errorf("after:  %v\nbefore: %v", after, before)
	}
}

// state is every address and every route of the namespace in all tables, as text.
func state(t *testing.T) []string {
	t.Helper()
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, a := range addresses {
		lines = append(lines, a.IPNet.String())
	}
	for _, r := range routes {
		lines = append(lines, r.String())
	}
	slices.Sort(lines)
	return lines
}
