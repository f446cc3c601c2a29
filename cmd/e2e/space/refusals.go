package space

import (
	"runtime"
	"testing"
	"unsafe"

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

// Refuse has the kernel refuse the thread a system call with these arguments, for good, as an older kernel or other hardware
// would.
func Refuse(t testing.TB, refusal unix.Errno, call uint32, args map[int]uint32) {
	t.Helper()
	runtime.LockOSThread()
	load := func(offset int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
	}
	const number, firstArg = 0, 16 // of struct seccomp_data; the lower half of an argument comes first
	program := []unix.SockFilter{load(number), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jt: 1}, allow}
	for i, value := range args {
		program = append(program, load(firstArg+8*i), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: 1}, allow)
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(refusal)})
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil {
		t.Fatal(err)
	}
}

var allow = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
