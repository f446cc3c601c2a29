package route

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/kernel"
)

var errNotYet = errors.New("not yet")

// told waits until the watcher tells of something.
func told(t *testing.T, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.Changed:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not told", what)
	}
}

// TestWatch: what a watcher tells leads to a look at the interface, which in the end sees it as it is.
func TestWatch(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	addresses := space.Prefixes("10.90.0.1/24", "fd90::1/64")
	awaitState := func(what string, is error) {
		t.Helper()
		for err := error(errNotYet); !errors.Is(err, is); err = Intact("tun0", addresses, nil) {
			told(t, w, what)
		}
	}
	if err := Configure("tun0", addresses, 1420); err != nil {
		t.Fatal(err)
	}
	awaitState("configured", nil)
	space.IP(t, "link set tun0 down")
	awaitState("down", ErrDown)
	space.IP(t, "link set tun0 up")
	awaitState("up again", ErrLost)
	w.Close()
	w.Close()
	for range w.Changed { // which ends
	}
}

// TestWatchUnderlay: what happens to another interface is told: to its addresses, its routes, and whether it forwards, which
// another SSM may switch off at its end.
func TestWatchUnderlay(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "br9")
	for _, change := range []string{"addr add 10.91.0.1/24 dev br9", "route add 10.92.0.0/24 dev br9", "route del 10.92.0.0/24",
		"link set br9 mtu 1400", "link set br9 name br8"} {
		toldOf(t, change, func() { space.IP(t, change) })
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, value := range []string{"1", "0"} {
			name := kernel.Forwarding(family, "br8")
			toldOf(t, name+" to "+value, func() { space.SetSysctl(t, name, value) })
		}
	}
}

// toldOf makes a change that is to be told.
func toldOf(t *testing.T, what string, change func()) {
	t.Helper()
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	change()
	told(t, w, what)
}

// TestWatchFirewall: a change to chains and rules of nftables is told.
func TestWatchFirewall(t *testing.T) {
	space.Enter(t, space.TUN)
	for _, change := range []string{"add table inet f", "add chain inet f c", "add rule inet f c counter", "flush chain inet f c"} {
		toldOf(t, change, func() { space.NFT(t, change) })
	}
}

// TestNotTold: what the kernel says of routes in a table that is not the host's own, and of the elements of a set, concerns
// nobody.
func TestNotTold(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "br9", "10.91.0.1/24")
	space.NFT(t, "add table inet f; add set inet f s { type ipv4_addr; }")
	const generation = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN // which ends what nftables says of a change
	for _, tt := range []struct {
		protocol int
		group    uint
		change   func()
		last     uint16
		concerns func(syscall.NetlinkMessage) bool
	}{
		{unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, func() { space.IP(t, "route add 10.92.0.0/24 dev br9 table 100") },
			unix.RTM_NEWROUTE, inMain},
		{unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES, func() { space.NFT(t, "add element inet f s { 192.0.2.1 }") },
			generation, ofRules},
	} {
		socket, err := nl.Subscribe(tt.protocol, tt.group)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		tt.change()
		for last := false; !last; {
			messages, _, err := socket.Receive()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				last = last || m.Header.Type == tt.last
				if tt.concerns(m) {
					t.Errorf("a message of type %#x concerns", m.Header.Type)
				}
			}
		}
	}
}
