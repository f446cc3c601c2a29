package route

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
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
	enterNamespace(t)
	openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/24", "fd90::1/64"), 1420); err != nil {
		t.Fatal(err)
	}
	index := addBridge(t, "lan0", "192.168.7.1/24", "fd07::1/64").Attrs().Index
	gw := net.ParseIP("192.168.7.254")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: gw}, "0.0.0.0/0")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: gw}, "198.51.100.7/32")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: gw}, "10.8.0.0/16")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("fd07::fe")}, "2001:db8:7::/48")
	addRoute(t, netlink.Route{Type: 7}, "10.66.0.0/16") // RTN_UNREACHABLE leads nowhere
	ppp := addBridge(t, "ppp0")
	peer, err := netlink.ParseAddr("172.20.0.1/32")
	if err != nil {
		t.Fatal(err)
	}
	peer.Peer = fromPrefix(netip.MustParsePrefix("172.20.0.2/32"))
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
	enterNamespace(t)
	openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/32"), 1420); err != nil {
		t.Fatal(err)
	}
	tunnel, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	lan := addBridge(t, "lan0", "192.168.7.1/24").Attrs().Index
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(shortest int) netip.Prefix {
		addr := netip.AddrFrom4([4]byte{20, byte(random.IntN(2)), byte(random.IntN(4)) << 6, byte(random.IntN(4)) << 6})
		return netip.PrefixFrom(addr, shortest+random.IntN(33-shortest)).Masked()
	}
	for range 30 {
		host := pick(6)
		// A prefix drawn twice is there already, and that is as good.
		_ = netlink.RouteAdd(&netlink.Route{LinkIndex: lan, Dst: fromPrefix(host), Scope: netlink.SCOPE_LINK})
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

// TestEnters: whoever made the route, the kernel's own choice counts.
func TestEnters(t *testing.T) {
	enterNamespace(t)
	openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/24", "fd90::1/64"), 1420); err != nil {
		t.Fatal(err)
	}
	lan := addBridge(t, "lan0", "192.168.7.1/24", "fd07::1/64").Attrs().Index
	tunnel, err := Index("tun0")
	if err != nil {
		t.Fatal(err)
	}
	addRoute(t, netlink.Route{LinkIndex: tunnel, Scope: netlink.SCOPE_LINK}, "0.0.0.0/0")
	addRoute(t, netlink.Route{LinkIndex: lan, Scope: netlink.SCOPE_LINK}, "203.0.113.7/32")
	addRoute(t, netlink.Route{LinkIndex: tunnel}, "fd07::80/121")
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
	if want := prefixes("10.90.0.1/32", "127.0.0.1/32", "192.168.7.1/32", "::1/128", "fd07::1/128", "fd90::1/128"); err != nil {
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

// TestNoIPv6: where it is switched off, only addresses of IPv4 can be had, and the error says which is the matter.
func TestNoIPv6(t *testing.T) {
	enterNamespace(t)
	for _, which := range []string{"all", "default"} {
		name := "/proc/sys/net/ipv6/conf/" + which + "/disable_ipv6"
		if err := os.WriteFile(name, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/24", "fd90::1/64"), 1420); !errors.Is(err, ErrNoIPv6) {
		t.Errorf("got %v, want ErrNoIPv6", err)
	}
	if err := Configure("tun0", prefixes("10.90.0.1/24"), 1420); err != nil {
		t.Error(err)
	}
	if err := Add("tun0", netip.MustParsePrefix("fd91::/48")); !errors.Is(err, ErrNoIPv6) {
		t.Errorf("got %v, want ErrNoIPv6", err)
	}
}

func TestUnderlay(t *testing.T) {
	enterNamespace(t)
	if got, err := DefaultSource(); !errors.Is(err, ErrUnreachable) {
		t.Errorf("DefaultSource without a route = %s, %v; want ErrUnreachable", got, err)
	}
	lan := addBridge(t, "lan0", "192.168.6.1/24", "192.168.7.1/24", "fd07::1/64")
	index := lan.Attrs().Index
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("fd07::fe")}, "::/0")
	defaultSource(t, "fd07::1")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.7.254"), Priority: 300}, "0.0.0.0/0")
	defaultSource(t, "192.168.7.1") // the address in the gateway's network, not the interface's first
	addRoute(t, netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Priority: 200}, "0.0.0.0/0")
	defaultSource(t, "192.168.6.1")
	other := net.ParseIP("192.168.7.1")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.6.254"), Src: other}, "0.0.0.0/0")
	defaultSource(t, "192.168.7.1")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.7.254"), MTU: 1300}, "203.0.113.0/24")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.7.254"), MTU: 9000}, "198.51.100.0/24")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("fd07::fe"), MTU: 1280}, "2001:db8::/32")
	addRoute(t, netlink.Route{Type: 7}, "10.66.0.0/16")
	for _, c := range []struct {
		dst, source string
		mtu         int
	}{
		{"192.168.7.9", "192.168.7.1", 1500},
		{"::ffff:192.168.7.9", "192.168.7.1", 1500},
		{"203.0.113.1", "192.168.7.1", 1300},
		{"198.51.100.1", "192.168.7.1", 1500}, // the interface is narrower than the route says
		{"fd07::9", "fd07::1", 1500},
		{"2001:db8::1", "fd07::1", 1280},
		{"127.0.0.1", "127.0.0.1", 65536},
		{"192.168.7.1", "192.168.7.1", 65536}, // itself
		{"10.66.0.1", "", 0},
		{"", "", 0},
	} {
		var dst netip.Addr
		if c.dst != "" {
			dst = netip.MustParseAddr(c.dst)
		}
		source, err := SourceFor(dst)
		mtu, mtuErr := UnderlayMTU(dst)
		if c.source == "" {
			if !errors.Is(err, ErrUnreachable) || !errors.Is(mtuErr, ErrUnreachable) {
				t.Errorf("to %q: %v and %v, want ErrUnreachable", c.dst, err, mtuErr)
			}
			continue
		}
		if err != nil || mtuErr != nil || source.String() != c.source || mtu != c.mtu {
			t.Errorf("to %s: %s, %v, %d, %v; want %s, %d", c.dst, source, err, mtu, mtuErr, c.source, c.mtu)
		}
	}
}

func defaultSource(t *testing.T, want string) {
	t.Helper()
	if got, err := DefaultSource(); err != nil || got.String() != want {
		t.Errorf("DefaultSource = %s, %v; want %s", got, err, want)
	}
}

// TestWay tells the route that decides from those that it wins over, and what is the host's own.
func TestWay(t *testing.T) {
	enterNamespace(t)
	openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/32", "fd90::1/128"), 1420); err != nil {
		t.Fatal(err)
	}
	index := addBridge(t, "lan0", "192.168.7.1/24", "fd07::1/64").Attrs().Index
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.7.254")}, "0.0.0.0/0")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.7.254")}, "10.20.3.0/24")
	addRoute(t, netlink.Route{LinkIndex: index, Gw: net.ParseIP("192.168.7.254"), MTU: 1400}, "198.51.100.0/24")
	addRoute(t, netlink.Route{Type: 7}, "10.66.0.0/16") // RTN_UNREACHABLE leads nowhere
	for _, p := range prefixes("10.20.0.0/16", "fd20::/48") {
		if err := Add("tun0", p); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		dst, ifname, prefix string
		mtu                 int
	}{
		{"10.20.4.1", "tun0", "10.20.0.0/16", 1420},
		{"10.20.3.1", "lan0", "10.20.3.0/24", 1500},
		{"fd20::7", "tun0", "fd20::/48", 1420},
		{"192.168.7.9", "lan0", "192.168.7.0/24", 1500},
		{"198.51.100.9", "lan0", "198.51.100.0/24", 1400},
		{"203.0.113.9", "lan0", "0.0.0.0/0", 1500},
		{"10.90.0.1", "lo", "10.90.0.1/32", 65536},
	} {
		ifname, prefix, mtu, err := Way(netip.MustParseAddr(c.dst))
		if err != nil || ifname != c.ifname || prefix.String() != c.prefix || mtu != c.mtu {
			t.Errorf("%s: %s, %s, %d, %v; want %s, %s, %d", c.dst, ifname, prefix, mtu, err, c.ifname, c.prefix, c.mtu)
		}
	}
	for _, dst := range []string{"10.66.0.1", "2001:db8::1"} {
		if ifname, prefix, _, err := Way(netip.MustParseAddr(dst)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %s, %s, %v; want %v", dst, ifname, prefix, err, ErrUnreachable)
		}
	}
}
