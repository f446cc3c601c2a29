package route

import (
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
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
	enterNamespace(t)
	openTUN(t, "tun0")
	w, err := Watch("tun0")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	addresses := prefixes("10.90.0.1/24", "fd90::1/64")
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
	if _, err := Watch("tun7"); !errors.Is(err, ErrNoInterface) {
		t.Errorf("no such interface: %v", err)
	}
}

// TestWatchAnother: changes to other interfaces are not told.
func TestWatchAnother(t *testing.T) {
	enterNamespace(t)
	openTUN(t, "tun0")
	openTUN(t, "tun1")
	idle, err := Watch("tun0")
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	busy, err := Watch("tun1")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	setUp(t, "tun1", "10.91.0.1/24")
	if _, more := <-busy.Changed; !more {
		t.Error("the watcher has ended")
	}
	idle.Close()
	for range idle.Changed {
		t.Error("told of another interface")
	}
}

// TestIntact: what an interface loses by going down, and what is still missing as it comes up.
func TestIntact(t *testing.T) {
	enterNamespace(t)
	openTUN(t, "tun0")
	addresses, routes := prefixes("10.90.0.1/32", "fd90::1/128"), prefixes("10.90.0.0/16", "fd90::/48")
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
	toggle(t, "tun0", false)
	if err := Intact("tun0", addresses, routes); !errors.Is(err, ErrDown) ||
		err.Error() != "route: interface is down: bring it up with 'ip link set tun0 up'" {
		t.Errorf("down: %v", err)
	}
	toggle(t, "tun0", true)
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
