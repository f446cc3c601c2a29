package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
	"ssmnet/tunssm/undo"
)

// TestRunsPastAKill: an SSM that takes calls and does not answer them, because it ends, is waited for.
func TestRunsPastAKill(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), socketName)
	socket, err := daemon.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			if conn, err := socket.Accept(); err == nil {
				conn.Close()
			}
		}
		socket.Close()
	}()
	h := daemon.Client(path)
	defer h.CloseIdleConnections()
	if _, err := runs(t.Context(), admin.NewClient(h)); !errors.Is(err, daemon.ErrNotRunning) {
		t.Errorf("error %v, want %v", err, daemon.ErrNotRunning)
	}
	socket.Close()
	<-done
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestHostedLeavesNothing: an interface of our own goes with the SSM, one that was there is as it was, and neither the
// run nor a failure to begin one leaves a goroutine, a descriptor or a file.
func TestHostedLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	made := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun9"}, Mode: netlink.TUNTAP_MODE_TUN}
	if err := errors.Join(netlink.LinkAdd(made), netlink.LinkSetMTU(made, 1333)); err != nil {
		t.Fatal(err)
	}
	log := daemon.NewLog(io.Discard, slog.LevelInfo)
	record := filepath.Join(t.TempDir(), undoName)
	s := defaults()
	s.MTU = 1400
	taken, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const warmUp = 3 // after which what the process keeps for itself is there
	before := 0
	for i := range 50 {
		s.Interface, s.named = []string{"tun0", "tun9"}[i%2], i%2 == 1
		journal := undo.New(record, log)
		s.Listen = taken.LocalAddr().(*net.UDPAddr).Port
		if _, _, err := openHost(t.Context(), s, nil, journal, log); err == nil {
			t.Fatal("opened with a port that is taken")
		}
		s.Listen = defaults().Listen
		host, r, err := openHost(t.Context(), s, nil, journal, log)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(record); (err == nil) != s.named {
			t.Errorf("on record: %v, want %v", err == nil, s.named)
		}
		identity := control.Identity{Name: "ana", KeyID: control.NewKeyID(), Key: secret.NewKey()}
		ssm := hosted{tunssm.New(tunssm.Options{Identity: identity, Host: host, Log: log}), journal, r, ""}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := ssm.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if i == warmUp {
			before = descriptors(t)
		}
	}
	if after := descriptors(t); after != before {
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

// TestFailedAttach: an interface that another program uses is put back at once, as it was found.
func TestFailedAttach(t *testing.T) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	made := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun9"}, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		Flags: netlink.TUNTAP_NO_PI}
	if err := netlink.LinkAdd(made); err != nil {
		t.Fatal(err)
	}
	for _, f := range made.Fds {
		defer f.Close()
	}
	var logged bytes.Buffer
	log := daemon.NewLog(&logged, slog.LevelInfo)
	record := filepath.Join(t.TempDir(), undoName)
	s := defaults()
	s.Interface, s.named, s.MTU = "tun9", true, 1400
	_, _, err := openHost(t.Context(), s, nil, undo.New(record, log), log)
	if err == nil || err.Error() != "tun: interface name is taken: another program uses tun9; choose another with --interface" {
		t.Error(err)
	}
	if _, err := os.Lstat(record); err == nil {
		t.Error("the record is left")
	}
}
