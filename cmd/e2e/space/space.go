package space

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TUN is what a test needs besides a namespace to have a TUN interface.
const TUN = "/dev/net/tun"

// Enter gives the test's thread a network namespace in which there is a loopback, up, and nothing else. The thread ends
// with the test's goroutine. A test that may not have a namespace, or one of the devices that it needs, is skipped.
func Enter(t testing.TB, devices ...string) {
	t.Helper()
	for _, name := range devices {
		device, err := os.OpenFile(name, os.O_RDWR, 0)
		Require(t, err)
		device.Close()
	}
	Require(t, unshare())
	Require(t, netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo"}}))
}

// New makes a network namespace with nothing in it, which the test's thread does not enter. It ends with the test.
func New(t testing.TB) (space *os.File) {
	t.Helper()
	Require(t, onThread(func() error {
		err := unshare()
		if err == nil {
			space, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	}))
	t.Cleanup(func() { space.Close() })
	return space
}

// In runs f on a thread inside a namespace. Sockets and processes stay in the namespace where f made them, so they serve
// any goroutine afterwards.
func In(space *os.File, f func() error) error {
	return onThread(func() error {
		runtime.LockOSThread() // for good: a thread that has moved ends with its goroutine
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// Descriptors counts those of this process.
func Descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func unshare() error {
	runtime.LockOSThread() // for good, as in In
	return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET))
}

func onThread(f func() error) error {
	done := make(chan error)
	go func() { done <- f() }()
	return <-done
}

// Disk is a directory with room for so much (512k, 4m), until Resize changes it.
func Disk(t testing.TB, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	Require(t, mount(dir, 0, size))
	t.Cleanup(func() { Require(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// Resize changes how much has room on a Disk.
func Resize(t testing.TB, dir, size string) {
	t.Helper()
	Require(t, mount(dir, unix.MS_REMOUNT, size))
}

func mount(dir string, flags uintptr, size string) error {
	return os.NewSyscallError("mount", unix.Mount("tmpfs", dir, "tmpfs", flags, "size="+size+",mode=0700"))
}
