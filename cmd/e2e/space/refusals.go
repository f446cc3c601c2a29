package space

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Drop takes a capability from the thread alone, until it is given back.
func Drop(t testing.TB, capability int) (giveBack func()) {
	t.Helper()
	runtime.LockOSThread()
	set := func(change func(effective uint32) uint32) {
		t.Helper()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			t.Fatal(err)
		}
		data[0].Effective = change(data[0].Effective)
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Fatal(err)
		}
	}
	set(func(all uint32) uint32 { return all &^ (1 << capability) })
	return func() { set(func(all uint32) uint32 { return all | 1<<capability }) }
}

// Cover puts an empty directory over another, as the thread alone sees it.
func Cover(t testing.TB, dir string) { cover(t, "none", dir, "tmpfs", 0) }

// ReadOnly makes what is in a directory read-only, as the thread alone sees it.
func ReadOnly(t testing.TB, dir string) {
	cover(t, dir, dir, "", unix.MS_BIND|unix.MS_REC)
	cover(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
}

func cover(t testing.TB, source, dir, kind string, flags uintptr) {
	t.Helper()
	runtime.LockOSThread()
	Require(t, unix.Unshare(unix.CLONE_NEWNS))
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, dir, kind, flags, ""); err != nil {
		t.Fatalf("mount on %s: %v", dir, err)
	}
}
