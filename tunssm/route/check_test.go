package route

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/kernel"
)

// check asks about one route into tun0.
func check(t *testing.T, prefix netip.Prefix, avoid ...netip.Addr) error {
	t.Helper()
	conflicts, err := Check([]netip.Prefix{prefix}, "tun0", avoid)
	if err != nil {
		t.Fatal(err)
	}
	return conflicts[prefix]
}

// TestCheck builds a host with a LAN, a default route, a narrow route to one KDC, a point-to-point link and a tunnel.
func TestCheck(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/24", "fd90::1/64"), 1420); err != nil {
		t.Fatal(err)
	}
	index := space.Bridge(t, "lan0", "192.168.7.1/24", "fd07::1/64").Attrs().Index
	gw := net.ParseIP("192.168.7.254")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw}, "0.0.0.0/0")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw}, "198.51.100.7/32")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: gw}, "10.8.0.0/16")
	space.Route(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("fd07::fe")}, "2001:db8:7::/48")
	space.Route(t, netlink.Route{Type: 7}, "10.66.0.0/16") // RTN_UNREACHABLE leads nowhere
	ppp := space.Bridge(t, "ppp0")
	peer, err := netlink.ParseAddr("172.20.0.1/32")
	if err != nil {
		t.Fatal(err)
	}
	peer.Peer = kernel.Network(netip.MustParsePrefix("172.20.0.2/32"))
	if err := netlink.AddrAdd(ppp, peer); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, prefix string
		avoid        []string
		reason       []string // none: no conflict
	}{
		{"free", "10.91.0.0/16", nil, nil},
		{"free, IPv6", "fd91::/48", nil, nil},
		{"the tunnel's own", "10.90.0.0/24", nil, nil},
		{"the tunnel's own, IPv6", "fd90::/64", nil, nil},
		{"the LAN", "192.168.7.0/24", nil, []string{"192.168.7.0/24", "lan0"}},
		{"a part of the LAN", "192.168.7.128/25", nil, []string{"192.168.7.0/24", "lan0"}},
		{"around the LAN", "192.168.0.0/16", nil, []string{"192.168.7.0/24", "lan0"}},
		{"the LAN, not masked", "192.168.7.9/24", nil, []string{"192.168.7.0/24", "lan0"}},
		{"the LAN, IPv6", "fd07::/32", nil, []string{"fd07::/64", "lan0"}},
		{"loopback", "127.0.0.53/32", nil, []string{"127.0.0.0/8", "lo"}},
		{"the other end of a link", "172.20.0.2/32", nil, []string{"172.20.0.2/32", "ppp0"}},
		{"everything", "0.0.0.0/0", nil, []string{"0.0.0.0/0"}},
		{"routed already", "10.8.0.0/16", nil, []string{"10.8.0.0/16", "lan0"}},
		{"inside what is routed", "10.8.1.0/24", nil, nil},
		{"around what is routed", "10.0.0.0/9", nil, nil},
		{"same as unreachable", "10.66.0.0/16", nil, nil},
		{"KDC outside", "10.91.0.0/16", []string{"203.0.113.1", "10.92.0.1", "fd91::1"}, nil},
		{"KDC inside, by the default route", "203.0.113.0/24", []string{"203.0.113.1"}, []string{"203.0.113.1"}},
		{"KDC itself", "203.0.113.1/32", []string{"203.0.113.1"}, []string{"203.0.113.1"}},
		{"KDC inside, mapped", "203.0.113.0/24", []string{"::ffff:203.0.113.1"}, []string{"203.0.113.1"}},
		{"second KDC inside", "203.0.113.0/24", []string{"192.0.2.1", "203.0.113.1"}, []string{"203.0.113.1"}},
		{"KDC with a narrower route", "198.51.100.0/24", []string{"198.51.100.7"}, nil},
		{"its neighbour without", "198.51.100.0/24", []string{"198.51.100.8"}, []string{"198.51.100.8"}},
		{"as narrow as its route", "198.51.100.7/32", []string{"198.51.100.7"}, []string{"198.51.100.7/32"}},
		{"KDC by a wide route", "10.0.0.0/9", []string{"10.8.0.1"}, nil},
		{"KDC by a wider route", "10.8.1.0/24", []string{"10.8.1.1"}, []string{"10.8.1.1"}},
		{"KDC by an unreachable route", "10.66.0.0/15", []string{"10.66.0.1"}, []string{"10.66.0.1"}},
		{"KDC with a narrower route, IPv6", "2001:db8::/32", []string{"2001:db8:7::1"}, nil},
		{"KDC without any route, IPv6", "2001:db8::/32", []string{"2001:db8:8::1"}, []string{"2001:db8:8::1"}},
		{"this host's overlay address", "10.88.0.0/13", []string{"10.90.0.1"}, []string{"10.90.0.1"}},
	} {
		avoid := make([]netip.Addr, 0, len(c.avoid))
		for _, a := range c.avoid {
			avoid = append(avoid, netip.MustParseAddr(a))
		}
		err := check(t, netip.MustParsePrefix(c.prefix), avoid...)
		if c.reason == nil {
			if err != nil {
				t.Errorf("%s: %v, want no conflict", c.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", c.name, err)
			continue
		}
		for _, s := range c.reason {
			if !strings.Contains(err.Error(), s) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %q: want one line with %q", c.name, err, s)
			}
		}
	}
}

// TestCheckIsRouting compares check with what it predicts: after the prefix is routed into the tunnel, the avoided
// address must not be sent there (the oracle is the kernel's own lookup).
func TestCheckIsRouting(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/32"), 1420); err != nil {
		t.Fatal(err)
	}
	tunnel, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	lan := space.Bridge(t, "lan0", "192.168.7.1/24").Attrs().Index
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(shortest int) netip.Prefix {
		addr := netip.AddrFrom4([4]byte{20, byte(random.IntN(2)), byte(random.IntN(4)) << 6, byte(random.IntN(4)) << 6})
		return netip.PrefixFrom(addr, shortest+random.IntN(33-shortest)).Masked()
	}
	for range 30 {
		host := pick(6)
		// A prefix drawn twice is there already, and that is as good.
		_ = netlink.RouteAdd(&netlink.Route{LinkIndex: lan, Dst: kernel.Network(host), Scope: netlink.SCOPE_LINK})
	}
	refused := 0
	for range 300 {
		prefix, addr := pick(8), pick(32).Addr()
		checked := check(t, prefix, addr)
		if checked != nil {
			refused++
			if !errors.Is(checked, ErrConflict) {
				t.Fatal(checked)
			}
		}
		if err := Add("tun0", prefix); err != nil {
			t.Fatal(err)
		}
		r, err := routeTo(addr)
		if err != nil && !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
		if checked == nil && err == nil && r.LinkIndex == tunnel.Attrs().Index {
			t.Errorf("Check(%s, %s) passed, and the route took the address", prefix, addr)
		}
		if err := Del("tun0", prefix); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 20 || refused > 280 {
		t.Errorf("%d of 300 refused: the test decides too little", refused)
	}
}
