package route

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/tun"
)

// enterNamespace gives the test's thread an empty network namespace. The thread ends with the test's goroutine.
func enterNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (these tests need root): %v", err)
	}
	setUp(t, "lo")
}

// setUp brings an interface up with the given addresses.
func setUp(t testing.TB, name string, addresses ...string) netlink.Link {
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
	}
	return link
}

// addBridge makes an interface of the underlay, without a wire.
func addBridge(t testing.TB, name string, addresses ...string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		t.Fatal(err)
	}
	return setUp(t, name, addresses...)
}

// addRoute gives the host a route of its own.
func addRoute(t testing.TB, r netlink.Route, dst string) {
	t.Helper()
	r.Dst = fromPrefix(netip.MustParsePrefix(dst))
	if err := netlink.RouteAdd(&r); err != nil {
		t.Fatalf("route %s: %v", dst, err)
	}
}

func openTUN(t testing.TB, name string) *tun.Device {
	t.Helper()
	d, err := tun.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		parsed = append(parsed, netip.MustParsePrefix(s))
	}
	return parsed
}

// addressesOf reads the interface's addresses, sorted.
func addressesOf(t testing.TB, name string) []netip.Prefix {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var got []netip.Prefix
	for _, a := range list {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%s is tentative", a.IPNet)
		}
		p, _ := addrPrefix(a.IPNet)
		got = append(got, p)
	}
	slices.SortFunc(got, netip.Prefix.Compare)
	return got
}

func TestConfigure(t *testing.T) {
	enterNamespace(t)
	openTUN(t, "tun0")
	for _, step := range []struct {
		name      string
		addresses []netip.Prefix
		mtu       int
	}{
		{"first", prefixes("10.90.0.1/24", "fd90::1/64"), 1420},
		{"again", prefixes("10.90.0.1/24", "fd90::1/64"), 1420},
		{"single addresses", prefixes("10.90.0.1/32", "fd90::1/128"), 1280},
		{"longer and shorter", prefixes("10.90.0.1/16", "10.90.0.2/16", "fd90::1/48"), 1420},
		{"the second becomes the first", prefixes("10.90.0.2/16", "fd90::1/48"), 1420},
		{"others", prefixes("10.91.0.1/32", "10.91.0.2/32", "fd91::1/64"), 9000},
		{"IPv6 only", prefixes("fd91::1/64"), 1420},
		{"IPv4 only", prefixes("10.91.0.1/24"), 1420},
		{"none", nil, 1420},
	} {
		if err := Configure("tun0", step.addresses, step.mtu); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := addressesOf(t, "tun0"); !slices.Equal(got, step.addresses) {
			t.Errorf("%s: addresses %v, want %v", step.name, got, step.addresses)
		}
		for _, p := range step.addresses {
			if r, err := routeTo(p.Addr()); err != nil || r.Type != unix.RTN_LOCAL {
				t.Errorf("%s: %s is not usable yet: route type %d, %v", step.name, p.Addr(), r.Type, err)
			}
		}
		link, err := netlink.LinkByName("tun0")
		if err != nil {
			t.Fatal(err)
		}
		a := link.Attrs()
		if a.MTU != step.mtu || a.Flags&net.FlagUp == 0 || a.TxQLen != queueLength {
			t.Errorf("%s: MTU %d, flags %s, queue %d; want %d, up, %d",
				step.name, a.MTU, a.Flags, a.TxQLen, step.mtu, queueLength)
		}
		if a.GSOMaxSize != gsoMaxSize || a.GSOIPv4MaxSize != gsoMaxSize {
			t.Errorf("%s: GSO sizes %d and %d, want %d", step.name, a.GSOMaxSize, a.GSOIPv4MaxSize, gsoMaxSize)
		}
	}
}

func TestConfigureRefusals(t *testing.T) {
	enterNamespace(t)
	openTUN(t, "tun0")
	if err := Configure("tun0", nil, MinMTU-1); err == nil || !strings.Contains(err.Error(), "1280") {
		t.Errorf("small MTU: %v, want an error that names the least", err)
	}
	if err := Configure("tun7", nil, 1420); !errors.Is(err, ErrNoInterface) || !strings.Contains(err.Error(), "tun7") {
		t.Errorf("no such interface: %v", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of this thread alone, which ends with the test
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if err := Configure("tun0", prefixes("10.90.0.1/24"), 1420); !errors.Is(err, ErrPrivilege) {
		t.Errorf("Configure: %v, want ErrPrivilege", err)
	}
	if err := Add("tun0", prefixes("10.90.0.0/24")[0]); !errors.Is(err, ErrPrivilege) {
		t.Errorf("Add: %v, want ErrPrivilege", err)
	}
}

// TestWithoutIPv6: a host that has switched IPv6 off still gets its IPv4 overlay.
func TestWithoutIPv6(t *testing.T) {
	enterNamespace(t)
	for _, scope := range []string{"all", "default"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	openTUN(t, "tun0")
	want := prefixes("10.90.0.1/24")
	if err := Configure("tun0", want, 1420); err != nil {
		t.Fatal(err)
	}
	if got := addressesOf(t, "tun0"); !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
}

func TestRoutes(t *testing.T) {
	enterNamespace(t)
	d := openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/32", "fd90::1/128"), 1420); err != nil {
		t.Fatal(err)
	}
	lan := addBridge(t, "lan0", "192.168.7.1/24")
	addRoute(t, netlink.Route{LinkIndex: lan.Attrs().Index, Priority: Metric}, "10.99.0.0/16")
	list := func(want ...string) {
		t.Helper()
		got, err := List("tun0")
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got, netip.Prefix.Compare)
		if !slices.Equal(got, prefixes(want...)) {
			t.Errorf("List = %v, want %v", got, want)
		}
	}
	list()
	for range 2 { // the second time changes nothing
		for _, p := range prefixes("10.90.0.0/24", "10.92.0.77/16", "fd90::/64", "2001:db8::5/128") {
			if err := Add("tun0", p); err != nil {
				t.Fatal(err)
			}
		}
		list("10.90.0.0/24", "10.92.0.0/16", "2001:db8::5/128", "fd90::/64")
	}
	if err := Add("tun0", prefixes("10.99.0.0/16")[0]); !errors.Is(err, ErrConflict) {
		t.Errorf("Add of what the LAN has with our metric: %v, want ErrConflict", err)
	}
	sources := map[string]string{"10.90.0.9": "10.90.0.1", "10.92.255.1": "10.90.0.1", "fd90::9": "fd90::1"}
	for dst, src := range sources {
		if got, err := SourceFor(netip.MustParseAddr(dst)); err != nil || got.String() != src {
			t.Errorf("source for %s is %v, %v; want %s", dst, got, err, src)
		}
	}
	for range 2 {
		for _, p := range prefixes("10.92.0.0/16", "fd90::/64", "10.1.0.0/16") {
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
	if err := Add("tun0", prefixes("10.90.0.0/24")[0]); !errors.Is(err, ErrNoInterface) {
		t.Errorf("Add without interface: %v, want ErrNoInterface", err)
	}
	if err := Del("tun0", prefixes("10.90.0.0/24")[0]); err != nil {
		t.Errorf("Del without interface: %v", err)
	}
}

// TestUndone: after the interface has gone, addresses, routes and links are what they were before it came.
func TestUndone(t *testing.T) {
	enterNamespace(t)
	setUp(t, "lo", "192.168.7.1/24")
	before := state(t)
	d := openTUN(t, "tun0")
	if err := Configure("tun0", prefixes("10.90.0.1/24", "fd90::1/64"), 1420); err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes("10.92.0.0/16", "fd92::/48") {
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
