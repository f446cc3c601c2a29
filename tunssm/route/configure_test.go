package route

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
	"ssmnet/tunssm/kernel"
)

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
		p, _ := kernel.AddressPrefix(a.IPNet)
		got = append(got, p)
	}
	slices.SortFunc(got, netip.Prefix.Compare)
	return got
}

func TestConfigure(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	for _, step := range []struct {
		name      string
		addresses []netip.Prefix
		mtu       int
	}{
		{"first", space.Prefixes("10.90.0.1/24", "fd90::1/64"), 1420},
		{"again", space.Prefixes("10.90.0.1/24", "fd90::1/64"), 1420},
		{"single addresses", space.Prefixes("10.90.0.1/32", "fd90::1/128"), 1280},
		{"longer and shorter", space.Prefixes("10.90.0.1/16", "10.90.0.2/16", "fd90::1/48"), 1420},
		{"the second becomes the first", space.Prefixes("10.90.0.2/16", "fd90::1/48"), 1420},
		{"others", space.Prefixes("10.91.0.1/32", "10.91.0.2/32", "fd91::1/64"), 9000},
		{"IPv6 only", space.Prefixes("fd91::1/64"), 1420},
		{"IPv4 only", space.Prefixes("10.91.0.1/24"), 1420},
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
		six, four := gsoSize(step.mtu, headersIPv6), gsoSize(step.mtu, headersIPv4)
		if int(a.GSOMaxSize) != six || int(a.GSOIPv4MaxSize) != four || a.GSOMaxSegs != maxFrames {
			t.Errorf("%s: GSO sizes %d and %d, %d segments; want %d and %d, %d",
				step.name, a.GSOMaxSize, a.GSOIPv4MaxSize, a.GSOMaxSegs, six, four, maxFrames)
		}
	}
}

// TestGSOSize: whatever the kernel takes off for itself, a super-packet's frames are one send, as nearly full as can be.
func TestGSOSize(t *testing.T) {
	for mtu := MinMTU; mtu <= 65455; mtu++ {
		for _, headers := range []int{headersIPv4, headersIPv6} {
			size, frame, segment := gsoSize(mtu, headers), mtu+packet.Overhead, mtu-headers
			for _, kernels := range []int{161, 321} { // MAX_TCP_HEADER + 1, by configuration
				frames := max(1, min(maxFrames, (size-kernels)/segment))
				if frames > 1 && frames*frame > maxSend || (frames+2)*frame <= maxSend && frames < maxFrames {
					t.Fatalf("MTU %d, headers of %d: %d frames of %d bytes in a send of %d", mtu, headers, frames, frame, maxSend)
				}
			}
		}
	}
}

func TestConfigureRefusals(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	if err := Configure("tun0", nil, MinMTU-1); err == nil || !strings.Contains(err.Error(), "1280") {
		t.Errorf("small MTU: %v, want an error that names the least", err)
	}
	if err := Configure("tun7", nil, 1420); !errors.Is(err, ErrNoInterface) || !strings.Contains(err.Error(), "tun7") {
		t.Errorf("no such interface: %v", err)
	}
	space.Drop(t, unix.CAP_NET_ADMIN)
	if err := Configure("tun0", space.Prefixes("10.90.0.1/24"), 1420); !errors.Is(err, kernel.ErrPrivilege) {
		t.Errorf("Configure: %v, want ErrPrivilege", err)
	}
	if err := Add("tun0", space.Prefixes("10.90.0.0/24")[0]); !errors.Is(err, kernel.ErrPrivilege) {
		t.Errorf("Add: %v, want ErrPrivilege", err)
	}
}

// TestNoIPv6: where it is switched off, only addresses of IPv4 can be had, and the error says which is the matter.
func TestNoIPv6(t *testing.T) {
	space.Enter(t, space.TUN)
	for _, which := range []string{"all", "default"} {
		name := "/proc/sys/net/ipv6/conf/" + which + "/disable_ipv6"
		if err := os.WriteFile(name, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	openTUN(t, "tun0")
	if err := Configure("tun0", space.Prefixes("10.90.0.1/24", "fd90::1/64"), 1420); !errors.Is(err, ErrNoIPv6) {
		t.Errorf("got %v, want ErrNoIPv6", err)
	}
	if err := Configure("tun0", space.Prefixes("10.90.0.1/24"), 1420); err != nil {
		t.Error(err)
	}
	if err := Add("tun0", netip.MustParsePrefix("fd91::/48")); !errors.Is(err, ErrNoIPv6) {
		t.Errorf("got %v, want ErrNoIPv6", err)
	}
}

// TestIntact: what an interface loses by going down, and what is still missing as it comes up.
func TestIntact(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	addresses, routes := space.Prefixes("10.90.0.1/32", "fd90::1/128"), space.Prefixes("10.90.0.0/16", "fd90::/48")
	setUpTUN := func() {
		t.Helper()
		if err := Configure("tun0", addresses, 1420); err != nil {
			t.Fatal(err)
		}
		for _, p := range routes {
			if err := Add("tun0", p); err != nil {
				t.Fatal(err)
			}
		}
		if err := Intact("tun0", addresses, routes); err != nil {
			t.Fatal(err)
		}
	}
	setUpTUN()
	space.IP(t, "link set tun0 down")
	if err := Intact("tun0", addresses, routes); !errors.Is(err, ErrDown) ||
		err.Error() != "route: interface is down: bring it up with 'ip link set tun0 up'" {
		t.Errorf("down: %v", err)
	}
	space.IP(t, "link set tun0 up")
	if err := Intact("tun0", addresses, routes); !errors.Is(err, ErrLost) {
		t.Errorf("up again: %v", err)
	}
	setUpTUN()
	if err := Del("tun0", routes[1]); err != nil {
		t.Fatal(err)
	}
	if err := Intact("tun0", addresses, routes); !errors.Is(err, ErrLost) ||
		err.Error() != "route: the interface has lost its route fd90::/48: tun0" {
		t.Errorf("without a route: %v", err)
	}
	if err := Intact("tun7", addresses, routes); !errors.Is(err, ErrNoInterface) {
		t.Errorf("no such interface: %v", err)
	}
}
