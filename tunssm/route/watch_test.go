package route

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/sandbox"
)

// toggle takes an interface down or up.
func toggle(t testing.TB, name string, up bool) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	set := netlink.LinkSetDown
	if up {
		set = netlink.LinkSetUp
	}
	if err := set(link); err != nil {
		t.Fatal(err)
	}
}

// TestWatch: what a watcher tells leads to a look at the interface, which in the end sees it as it is.
func TestWatch(t *testing.T) {
	sandbox.Enter(t)
	openTUN(t, "tun0")
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	addresses := sandbox.Prefixes("10.90.0.1/24", "fd90::1/64")
	awaitState := func(what string, is error) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for {
			select {
			case <-w.Changed:
				if err := Intact("tun0", addresses, nil); errors.Is(err, is) {
					return
				}
			case <-limit:
				t.Fatalf("%s: not told", what)
			}
		}
	}
	if err := Configure("tun0", addresses, 1420); err != nil {
		t.Fatal(err)
	}
	awaitState("configured", nil)
	toggle(t, "tun0", false)
	awaitState("down", ErrDown)
	toggle(t, "tun0", true)
	awaitState("up again", ErrLost)
	w.Close()
	w.Close()
	for range w.Changed { // which ends
	}
}

// TestWatchUnderlay: another interface's addresses and routes are told, and routes of a table that is not the host's own
// are not.
func TestWatchUnderlay(t *testing.T) {
	sandbox.Enter(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	lan := sandbox.Prefixes("10.92.0.0/24")[0]
	routed := netlink.Route{LinkIndex: lo.Attrs().Index, Dst: kernel.Network(lan), Scope: netlink.SCOPE_LINK}
	elsewhere := routed
	elsewhere.Table = 100
	for _, change := range []struct {
		name string
		make func() error
		told bool
	}{
		{"route in another table", func() error { return netlink.RouteAdd(&elsewhere) }, false},
		{"route in the main table", func() error { return netlink.RouteAdd(&routed) }, true},
		{"route removed", func() error { return netlink.RouteDel(&routed) }, true},
		{"interface", func() error { sandbox.Bridge(t, "br9", "10.91.0.1/24"); return nil }, true},
	} {
		w, err := Watch()
		if err != nil {
			t.Fatal(err)
		}
		if err := change.make(); err != nil {
			t.Fatal(err)
		}
		if change.told {
			<-w.Changed
		}
		w.Close()
		told := false
		for range w.Changed { // what has not been taken
			told = true
		}
		if told && !change.told {
			t.Errorf("%s: told", change.name)
		}
	}
}

// TestWatchFirewall: a change to chains and rules of nftables is told; one to the elements of a set is not.
func TestWatchFirewall(t *testing.T) {
	sandbox.Enter(t)
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	told := func(command string) bool {
		t.Helper()
		for len(w.Changed) > 0 {
			<-w.Changed
		}
		sandbox.NFT(t, command)
		select {
		case <-w.Changed:
			return true
		case <-time.After(300 * time.Millisecond):
			return false
		}
	}
	for _, command := range []string{"add table inet f", "add chain inet f c", "add rule inet f c counter", "flush chain inet f c"} {
		if !told(command) {
			t.Errorf("%s: not told", command)
		}
	}
	sandbox.NFT(t, "add set inet f s { type ipv4_addr; }")
	if told("add element inet f s { 192.0.2.1 }") {
		t.Error("told of an element")
	}
}

// TestWatchForwarding: forwarding that somebody switches off is told. Another SSM may, at its end, of an interface that both
// made forward.
func TestWatchForwarding(t *testing.T) {
	sandbox.Enter(t)
	sandbox.Bridge(t, "eth1")
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, value := range []string{"1", "0"} {
			for len(w.Changed) > 0 {
				<-w.Changed
			}
			if err := kernel.SetSysctl(kernel.Forwarding(family, "eth1"), value); err != nil {
				t.Fatal(err)
			}
			select {
			case <-w.Changed:
			case <-time.After(2 * time.Second):
				t.Errorf("%s to %s: not told", family, value)
			}
		}
	}
}
