package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/tun"
)

// openTUN makes tun0 in a network namespace of the test's own thread, which ends with it. It needs root.
func openTUN(t *testing.T) *tun.Device {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	device, err := tun.Open("tun0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
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

// TestOffer: what the operator has decided, and what the host is connected to, decide what is installed; each time anew.
func TestOffer(t *testing.T) {
	openTUN(t)
	r := &routes{name: "tun0", mtu: 1420, accept: true, log: daemon.NewLog(io.Discard, slog.LevelInfo)}
	if err := r.Configure([]netip.Addr{netip.MustParseAddr("100.80.0.2")}, nil); err != nil {
		t.Fatal(err)
	}
	a, b, c := netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.30.0.0/16"), netip.MustParsePrefix("10.40.0.0/16")
	peer := netip.MustParseAddr("10.40.0.9")
	offered := []netip.Prefix{a, b, c}
	wants := func(what string, avoid []netip.Addr, refused map[netip.Prefix]error) {
		t.Helper()
		var installed []netip.Prefix
		got := r.Offer(offered, avoid)
		for _, prefix := range offered {
			if !errors.Is(got[prefix], refused[prefix]) || got[prefix] != nil && refused[prefix] == nil {
				t.Errorf("%s: %s: %v, want %v", what, prefix, got[prefix], refused[prefix])
			}
			if refused[prefix] == nil {
				installed = append(installed, prefix)
			}
		}
		if there, err := route.List("tun0"); err != nil || !slices.Equal(there, installed) {
			t.Errorf("%s: %v is installed, %v, want %v", what, there, err, installed)
		}
	}
	type why = map[netip.Prefix]error
	wants("at first", nil, nil)
	leave := connect(t, "br9", "10.30.7.1/24")
	wants("connected to one", nil, why{b: route.ErrConflict})
	wants("a peer is inside another", []netip.Addr{peer}, why{b: route.ErrConflict, c: route.ErrConflict})
	r.decide(decisions{a: declined, b: forced, c: accepted})
	wants("decided", []netip.Addr{peer}, why{a: tunssm.ErrDeclined, c: route.ErrConflict})
	r.decide(decisions{b: accepted})
	wants("force taken back", nil, why{b: route.ErrConflict})
	leave()
	wants("healed", nil, nil)
	r.accept = false
	wants("of those accepted alone", nil, why{a: tunssm.ErrDeclined, c: tunssm.ErrDeclined})
	offered = offered[:1]
	wants("no longer offered", nil, why{a: tunssm.ErrDeclined})
}

// TestKeep: a change of the host's network has the offered routes judged anew.
func TestKeep(t *testing.T) {
	openTUN(t)
	watcher, err := route.Watch()
	if err != nil {
		t.Fatal(err)
	}
	r := &routes{name: "tun0", log: daemon.NewLog(io.Discard, slog.LevelInfo), watcher: watcher}
	judged := make(chan struct{}, 1)
	var tasks sync.WaitGroup
	connect(t, "br9", "10.30.7.1/24")
	tasks.Go(func() { r.keep(t.Context(), func() error { judged <- struct{}{}; return nil }) })
	<-judged
	watcher.Close()
	tasks.Wait()
}

// TestRestore: an interface that is taken down is a fault, and as it comes up again it gets back what it lost.
func TestRestore(t *testing.T) {
	device := openTUN(t)
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	r := &routes{name: "tun0", mtu: 1420, accept: true, log: daemon.NewLog(io.Discard, slog.LevelInfo)}
	if r.restore() || r.lost() != nil {
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
	if r.restore() || r.lost() != nil {
		t.Errorf("an interface as it should be is changed, or lacks something: %v", r.lost())
	}
	for range 2 {
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		if r.restore() || !errors.Is(r.lost(), route.ErrDown) {
			t.Errorf("an interface that is down is changed, or no fault: %v", r.lost())
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if !r.restore() || r.lost() != nil {
			t.Errorf("not restored: %v", r.lost())
		}
		if err := route.Intact("tun0", r.hosts, slices.Concat(overlays, offered)); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, "tun1")); err != nil {
		t.Fatal(err)
	}
	if r.restore() || !errors.Is(r.lost(), route.ErrNoInterface) {
		t.Errorf("an interface that has another name: %v", r.lost())
	}
	if err := errors.Join(netlink.LinkSetName(link, "tun0"), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	if !r.restore() || r.lost() != nil {
		t.Errorf("not restored: %v", r.lost())
	}
	device.Close()
	if r.restore() {
		t.Error("an interface that is gone is restored")
	}
}

// TestDial: a KDC that the host routes into the interface is not dialed, and neither is a link-local address.
func TestDial(t *testing.T) {
	openTUN(t)
	r := &routes{name: "tun0", mtu: 1420, log: daemon.NewLog(io.Discard, slog.LevelInfo)}
	defer connect(t, "lan0", "192.168.7.1/24")()
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.index, err = route.Index("tun0"); err != nil {
		t.Fatal(err)
	}
	tunnel := netip.MustParsePrefix("192.168.7.0/25")
	if err := r.Configure([]netip.Addr{netip.MustParseAddr("100.80.0.2")}, []netip.Prefix{netip.MustParsePrefix("100.80.0.0/16")}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "192.168.7.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := route.Add("tun0", tunnel); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]error{
		"100.80.0.9:7600": errInside, "192.168.7.9:7600": errInside, "[fe80::1]:7600": errLinkLocal, listener.Addr().String(): nil,
	} {
		conn, err := r.dial(t.Context(), address)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
		if conn != nil {
			conn.Close()
		}
	}
}

// TestIPv6SwitchedOff: the interface goes on with IPv4 where an operator switches IPv6 off, and that is no fault.
func TestIPv6SwitchedOff(t *testing.T) {
	openTUN(t)
	r := &routes{name: "tun0", mtu: 1420, accept: true, log: daemon.NewLog(io.Discard, slog.LevelInfo)}
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
	if !r.restore() || r.lost() != nil {
		t.Errorf("fault: %v", r.lost())
	}
	if refused := r.Offer(site, nil); len(refused) != 1 || !errors.Is(refused[site[1]], route.ErrNoIPv6) {
		t.Errorf("refused: %v", refused)
	}
	if r.restore() || r.lost() != nil {
		t.Errorf("it does not come to rest: %v", r.lost())
	}
	if err := r.Configure([]netip.Addr{four, six}, overlays); err != nil {
		t.Error("configured anew: ", err)
	}
	if err := r.Configure([]netip.Addr{six}, overlays); !errors.Is(err, route.ErrNoIPv6) {
		t.Errorf("with nothing else: %v", err)
	}
}
