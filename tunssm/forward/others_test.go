package forward

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/route"
)

// TestForwardRenamed: an interface that was renamed is no longer forwarded from afterwards, whether it was seen to have
// another name or not.
func TestForwardRenamed(t *testing.T) {
	for _, seen := range []bool{true, false} {
		space.Enter(t, space.TUN)
		space.Bridge(t, "tun0")
		link := space.Bridge(t, "eth1")
		j, file, log := newJournal(t)
		subnets := [2]netip.Prefix{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd19:7::/64")}
		if err := Switch(j, "tun0", route.Ways{subnets[0]: {"eth1"}, subnets[1]: {"eth1"}}); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, "lan9"), netlink.LinkSetUp(link))
		if err != nil {
			t.Fatal(err)
		}
		if seen {
			if err := Switch(j, "tun0", route.Ways{subnets[0]: {"lan9"}, subnets[1]: {"lan9"}}); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"ipv4/conf/lan9/forwarding", "ipv6/conf/lan9/force_forwarding"} {
			if space.Sysctl(t, name) != "1" {
				t.Errorf("renamed, seen %t: %s is off", seen, name)
			}
		}
		putsBack(t, again(file, log), 4)
		for _, name := range []string{"ipv4/conf/lan9/forwarding", "ipv6/conf/lan9/force_forwarding"} {
			if space.Sysctl(t, name) != "0" {
				t.Errorf("put back, seen %t: %s is left on", seen, name)
			}
		}
	}
}

// TestForwardReplaced: an interface that has come to have the name of one that we made forward is somebody else's.
func TestForwardReplaced(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "tun0")
	link := space.Bridge(t, "eth1")
	j, file, log := newJournal(t)
	subnet := netip.MustParsePrefix("192.168.7.0/24")
	if err := Switch(j, "tun0", route.Ways{subnet: {"eth1"}}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	space.Bridge(t, "eth1")
	if err := kernel.SetSysctl("ipv4/conf/eth1/forwarding", "1"); err != nil { // somebody
		t.Fatal(err)
	}
	if err := Switch(j, "tun0", route.Ways{subnet: {"eth1"}}); err != nil {
		t.Fatal(err)
	}
	putsBack(t, again(file, log), 1) // the tunnel's
	if space.Sysctl(t, "ipv4/conf/eth1/forwarding") != "1" {
		t.Error("another interface of that name no longer forwards")
	}
}

// TestForwardForOthers: where somebody has since made all interfaces forward, ours goes on with the others; where they all
// forwarded before but ours, it is kept from it again.
func TestForwardForOthers(t *testing.T) {
	for _, before := range []bool{false, true} {
		space.Enter(t, space.TUN)
		space.Bridge(t, "tun0")
		space.Bridge(t, "eth1")
		const all, eth1 = "ipv4/conf/all/forwarding", "ipv4/conf/eth1/forwarding"
		set := func(name, value string) {
			t.Helper()
			if err := kernel.SetSysctl(name, value); err != nil {
				t.Fatal(err)
			}
		}
		if before {
			set(all, "1")
			set(eth1, "0")
		}
		j, file, log := newJournal(t)
		if err := Switch(j, "tun0", route.Ways{netip.MustParsePrefix("192.168.7.0/24"): {"eth1"}}); err != nil {
			t.Fatal(err)
		}
		if !before {
			set(all, "1")
		}
		if _, err := again(file, log).PutBack(); err != nil {
			t.Fatal(err)
		}
		if got, want := space.Sysctl(t, eth1), map[bool]string{false: "1", true: "0"}[before]; got != want {
			t.Errorf("all forwarded before: %t: eth1 is %s, want %s", before, got, want)
		}
		if told := strings.Contains(log.String(), "somebody else has changed it"); told == before {
			t.Errorf("all forwarded before: %t: %s", before, log)
		}
	}
}
