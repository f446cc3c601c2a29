package main

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/route"
	"ssmnet/tunssm/tun"
)

// TestRestore: an interface that is taken down is a fault, and as it comes up again it gets back what it lost. It needs
// root: the test's thread, which ends with it, has a network namespace of its own.
func TestRestore(t *testing.T) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	device, err := tun.Open("tun0")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	link, err := netlink.LinkByName("tun0")
	if err != nil {
		t.Fatal(err)
	}
	r := &routes{name: "tun0", mtu: 1420, accept: true, log: newLog(io.Discard, slog.LevelInfo)}
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
	device.Close()
	if r.restore() {
		t.Error("an interface that is gone is restored")
	}
}
