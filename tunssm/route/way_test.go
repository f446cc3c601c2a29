package route

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
)

// TestEnters: whoever made the route, the kernel's own choice counts.
func TestEnters(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/24", "fd90::1/64"), 1420); err != nil {
		t.Fatal(err)
	}
	lan := space.Bridge(t, "lan0", "192.168.7.1/24", "fd07::1/64").Attrs().Index
	tunnel, err := Index("tun0")
	if err != nil {
		t.Fatal(err)
	}
	space.Route(t, netlink.Route{LinkIndex: tunnel, Scope: netlink.SCOPE_LINK}, "0.0.0.0/0")
	space.Route(t, netlink.Route{LinkIndex: lan, Scope: netlink.SCOPE_LINK}, "203.0.113.7/32")
	space.Route(t, netlink.Route{LinkIndex: tunnel}, "fd07::80/121")
	for dst, want := range map[string]bool{
		"192.168.7.9": false, "198.51.100.1": true, "203.0.113.7": false, "::ffff:198.51.100.1": true, "10.90.0.9": true,
		"fd07::9": false, "fd07::81": true, "fd90::9": true, "2001:db8::1": false, // no route at all
		"10.90.0.1": false, "192.168.7.1": false, "fd90::1": false, // this host's own
	} {
		if got := Enters(tunnel, netip.MustParseAddr(dst)); got != want {
			t.Errorf("%s: %v, want %v", dst, got, want)
		}
	}
	own, err := Own()
	if want := space.Prefixes("10.90.0.1/32", "127.0.0.1/32", "192.168.7.1/32", "::1/128", "fd07::1/128", "fd90::1/128"); err != nil {
		t.Error(err)
	} else {
		for _, p := range want {
			if !slices.Contains(own, p.Addr()) {
				t.Errorf("%s is not among %v", p.Addr(), own)
			}
		}
	}
	if again, err := Own(); err != nil || !slices.Equal(own, again) {
		t.Errorf("%v, then %v, %v", own, again, err)
	}
}

// TestWay tells the route that decides from those that it wins over, and what is the host's own.
func TestWay(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/32", "fd90::1/128"), 1420); err != nil {
		t.Fatal(err)
	}
	index := space.Bridge(t, "lan0", "192.168.7.1/24", "fd07::1/64").Attrs().Index
	gw := net.ParseIP("192.168.7.254")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw}, "0.0.0.0/0")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw}, "10.20.3.0/24")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw, MTU: 1400}, "198.51.100.0/24")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw, MTU: 9000}, "192.0.2.0/24")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("fd07::fe"), MTU: 1280}, "2001:db8::/48")
	space.Route(t, netlink.Route{Type: 7}, "10.66.0.0/16") // RTN_UNREACHABLE leads nowhere
	for _, p := range space.Prefixes("10.20.0.0/16", "fd20::/48") {
		if err := Add("tun0", p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		dst, ifname, prefix, source string
		mtu                         int
	}{
		{"10.20.4.1", "tun0", "10.20.0.0/16", "10.90.0.1", 1420},
		{"10.20.3.1", "lan0", "10.20.3.0/24", "192.168.7.1", 1500},
		{"fd20::7", "tun0", "fd20::/48", "fd90::1", 1420},
		{"192.168.7.9", "lan0", "192.168.7.0/24", "192.168.7.1", 1500},
		{"::ffff:192.168.7.9", "lan0", "192.168.7.0/24", "192.168.7.1", 1500},
		{"198.51.100.9", "lan0", "198.51.100.0/24", "192.168.7.1", 1400},
		{"192.0.2.9", "lan0", "192.0.2.0/24", "192.168.7.1", 1500}, // the interface is narrower than the route says
		{"203.0.113.9", "lan0", "0.0.0.0/0", "192.168.7.1", 1500},
		{"2001:db8::9", "lan0", "2001:db8::/48", "fd07::1", 1280},
		{"10.90.0.1", "lo", "10.90.0.1/32", "10.90.0.1", 65536},
	} {
		dst := netip.MustParseAddr(c.dst)
		ifname, prefix, mtu, err := Way(dst)
		source, none := SourceFor(dst)
		if err != nil || none != nil || ifname != c.ifname || prefix.String() != c.prefix || source.String() != c.source || mtu != c.mtu {
			t.Errorf("%s: %s, %s, %s, %d, %v, %v; want %+v", c.dst, ifname, prefix, source, mtu, err, none, c)
		}
	}
	for _, dst := range []netip.Addr{netip.MustParseAddr("10.66.0.1"), netip.MustParseAddr("2001:db9::1"), {}} {
		_, _, _, err := Way(dst)
		_, none := SourceFor(dst)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(none, ErrUnreachable) {
			t.Errorf("%s: %v, %v; want %v", dst, err, none, ErrUnreachable)
		}
	}
}
