package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/cmd/internal/cli"
)

// TestInitWithoutRoute: a host without a default route has no address to offer.
func TestInitWithoutRoute(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kdc")
	code, stdout, stderr := runAction(dir, func(c *cli.Context) error {
		return initialise(c, func() (netip.Addr, error) { return netip.Addr{}, syscall.ENETUNREACH })
	})
	want := "kdc: act: this host has no default route to take an address from: name one with --address; " +
		"see 'kdc act --help'\n"
	if code != cli.Usage || stdout != "" || stderr != want {
		t.Errorf("exit %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

// TestRouteSource: the address is that of the way out, of whatever family there is, and there is none without a way.
func TestRouteSource(t *testing.T) {
	space.Enter(t)
	if a, err := routeSource(); err == nil {
		t.Errorf("%s without any network", a)
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "wan0"}}
	if err := errors.Join(netlink.LinkAdd(link), netlink.LinkSetUp(link)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"fd77::5/64", "10.77.0.5/24"} { // IPv4 goes before IPv6
		own := netip.MustParsePrefix(text)
		address := &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(own.Bits(), own.Addr().BitLen())},
			Flags: unix.IFA_F_NODAD}
		everything := &net.IPNet{IP: make(net.IP, own.Addr().BitLen()/8), Mask: net.CIDRMask(0, own.Addr().BitLen())}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: everything}
		if err := errors.Join(netlink.AddrAdd(link, address), netlink.RouteAdd(route)); err != nil {
			t.Fatal(err)
		}
		if a, err := routeSource(); a != own.Addr() || err != nil {
			t.Errorf("%v, %v, want %s", a, err, own.Addr())
		}
	}
}
