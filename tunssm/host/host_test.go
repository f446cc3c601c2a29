package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/undo"
)

// TestHostLeavesNothing: an interface of our own goes with the SSM, one that was there is as it was, and neither the
// run nor a failure to begin one leaves a goroutine, a descriptor or a file.
func TestHostLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	space.Enter(t, space.TUN)
	made := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun9"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := errors.Join(netlink.LinkAdd(made), netlink.LinkSetMTU(made, 1333)); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	record := filepath.Join(t.TempDir(), "undo")
	o := Options{MTU: 1400, Log: log}
	taken, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const warmUp = 3 // after which what the process keeps for itself is there
	before := 0
	for i := range 50 {
		o.Interface, o.Adopt = []string{"tun0", "tun9"}[i%2], i%2 == 1
		o.Journal = undo.New(record, log)
		o.Port = uint16(taken.LocalAddr().(*net.UDPAddr).Port)
		if _, err := Open(t.Context(), o); err == nil {
			t.Fatal("opened with a port that is taken")
		}
		o.Port = control.DefaultFramePort
		h, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(record); (err == nil) != o.Adopt {
			t.Errorf("on record: %v, want %v", err == nil, o.Adopt)
		}
		identity := control.Identity{Name: "ana", KeyID: control.NewKeyID(), Key: secret.NewKey()}
		ssm := tunssm.New(tunssm.Options{Identity: identity, Host: h.Edge(), Log: log})
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := h.Run(ctx, ssm); err != nil {
			t.Fatal(err)
		}
		if i == warmUp {
			before = space.Descriptors(t)
		}
	}
	if after := space.Descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if _, err := os.Lstat(record); err == nil {
		t.Error("the record is left")
	}
	links, err := netlink.LinkList()
	if err != nil || len(links) != 2 || links[1].Attrs().Name != "tun9" || links[1].Attrs().MTU != 1333 {
		t.Errorf("interfaces %v, %v", links, err)
	}
}

// TestFailedAttach: an interface that another program uses, or that has fewer queues than are wanted, is as it was found.
func TestFailedAttach(t *testing.T) {
	space.Enter(t, space.TUN)
	made := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun9"}, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		Flags: netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(made); err != nil {
		t.Fatal(err)
	}
	for _, f := range made.Fds {
		defer f.Close()
	}
	log := slog.New(slog.DiscardHandler)
	record := filepath.Join(t.TempDir(), "undo")
	before := space.Descriptors(t)
	for queues, want := range map[int]string{
		1: "tun: interface name is taken: another program uses tun9; choose another with --interface",
		2: "tun: interface name is taken: tun9 was made to stay, with one queue; choose another with --interface, or --queues 1",
	} {
		o := Options{Interface: "tun9", Adopt: true, Queues: queues, MTU: 1400, Journal: undo.New(record, log), Log: log}
		if _, err := Open(t.Context(), o); err == nil || err.Error() != want {
			t.Errorf("%d queues: %v", queues, err)
		}
		if _, err := os.Lstat(record); err == nil {
			t.Error("the record is left")
		}
	}
	if after := space.Descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
