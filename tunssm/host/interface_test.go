package host

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/tun"
)

// openTUN makes tun0 in a network namespace of the test's own thread, which ends with it.
func openTUN(t *testing.T) *tun.Queue {
	t.Helper()
	space.Enter(t, space.TUN)
	queues, err := tun.Open("tun0", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { queues[0].Close() })
	return queues[0]
}

// connect joins the host to a network by a bridge of that name, and gives how to leave it.
func connect(t *testing.T, name, address string) (leave func()) {
	t.Helper()
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	addr, err := netlink.ParseAddr(address)
	if err := errors.Join(err, netlink.LinkAdd(link), netlink.LinkSetUp(link), netlink.AddrAdd(link, addr)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestore: an interface that is taken down is a fault, and as it comes up again it gets back what it lost.
func TestRestore(t *testing.T) {
	device := openTUN(t)
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Host{name: "tun0", mtu: 1420, accept: true, log: slog.New(slog.DiscardHandler)}
	if r.restore() || r.fault != nil {
		t.Error("something is done before there is anything to restore")
	}
	overlays := []netip.Prefix{netip.MustParsePrefix("100.80.0.0/12"), netip.MustParsePrefix("fd00:80::/48")}
	offered := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd20::/64")}
	addresses := []netip.Addr{netip.MustParseAddr("100.80.0.2"), netip.MustParseAddr("fd00:80::2")}
	if err := r.Configure(addresses, overlays); err != nil {
		t.Fatal(err)
	}
	if refused := r.Offer(offered, nil); len(refused) > 0 {
		t.Fatal(refused)
	}
	if r.restore() || r.fault != nil {
		t.Errorf("an interface as it should be is changed, or lacks something: %v", r.fault)
	}
	for range 2 {
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		if r.restore() || !errors.Is(r.fault, route.ErrDown) {
			t.Errorf("an interface that is down is changed, or no fault: %v", r.fault)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if !r.restore() || r.fault != nil {
			t.Errorf("not restored: %v", r.fault)
		}
		if err := route.Intact("tun0", r.hosts, slices.Concat(overlays, offered)); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, "tun1")); err != nil {
		t.Fatal(err)
	}
	if r.restore() || !errors.Is(r.fault, route.ErrNoInterface) {
		t.Errorf("an interface that has another name: %v", r.fault)
	}
	if err := errors.Join(netlink.LinkSetName(link, "tun0"), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	if !r.restore() || r.fault != nil {
		t.Errorf("not restored: %v", r.fault)
	}
	device.Close()
	if r.restore() {
		t.Error("an interface that is gone is restored")
	}
}

// TestIPv6SwitchedOff: the interface goes on with IPv4 where an operator switches IPv6 off, and that is no fault.
func TestIPv6SwitchedOff(t *testing.T) {
	openTUN(t)
	r := &Host{name: "tun0", mtu: 1420, accept: true, log: slog.New(slog.DiscardHandler)}
	four, six := netip.MustParseAddr("100.80.0.2"), netip.MustParseAddr("fd80::2")
	overlays := []netip.Prefix{netip.MustParsePrefix("100.80.0.0/16"), netip.MustParsePrefix("fd80::/48")}
	site := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd20::/48")}
	if err := r.Configure([]netip.Addr{four, six}, overlays); err != nil {
		t.Fatal(err)
	}
	if refused := r.Offer(site, nil); len(refused) != 0 {
		t.Fatal(refused)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/tun0/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if !r.restore() || r.fault != nil {
		t.Errorf("fault: %v", r.fault)
	}
	if refused := r.Offer(site, nil); len(refused) != 1 || !errors.Is(refused[site[1]], route.ErrNoIPv6) {
		t.Errorf("refused: %v", refused)
	}
	if r.restore() || r.fault != nil {
		t.Errorf("it does not come to rest: %v", r.fault)
	}
	if err := r.Configure([]netip.Addr{four, six}, overlays); err != nil {
		t.Error("configured anew: ", err)
	}
	if err := r.Configure([]netip.Addr{six}, overlays); !errors.Is(err, route.ErrNoIPv6) {
		t.Errorf("with nothing else: %v", err)
	}
}
