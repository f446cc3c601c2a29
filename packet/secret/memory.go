package secret

import (
	"cmp"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// LockMemory keeps all memory of the process, present and future, out of swap (mlockall(2)), page by page as each is
// first touched: without MCL_ONFAULT a Go program would be made resident whole. No capability is needed afterwards.
//
// It does so where the limit of locked memory is none or can be raised to that. Under a limit the kernel would refuse the
// next growth of the heap, and the program would end: so there what is mapped now is locked, if CAP_IPC_LOCK allows, with
// the first heapLocked bytes of heap among it, which Go fills from its low end; without the capability nothing changes.
// In either case the error says what to do.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("%w: getrlimit: %w", errNotLocked, err)
	}
	none := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if limit == none || unix.Setrlimit(unix.RLIMIT_MEMLOCK, &none) == nil {
		return lockAll(unix.MCL_CURRENT | unix.MCL_FUTURE)
	}
	part := ""
	if mayLock() {
		heap := make([]byte, heapLocked) // mapped, and not touched
		err := lockAll(unix.MCL_CURRENT)
		runtime.KeepAlive(heap)
		runtime.GC() // or the heap would be let grow to twice as much before the next
		if err != nil {
			return err
		}
		part = fmt.Sprintf(" beyond %d MiB of heap", heapLocked>>20)
	}
	return fmt.Errorf("%w%s: the limit is %d KiB: set LimitMEMLOCK=infinity (systemd) or ulimit -l unlimited",
		errNotLocked, part, limit.Cur/1024)
}

// heapLocked is several times what either daemon uses.
const heapLocked = 64 << 20

func lockAll(which int) error {
	if err := unix.Mlockall(which | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("%w: mlockall: %w", errNotLocked, err)
	}
	return nil
}

// mayLock says whether the effective capabilities hold CAP_IPC_LOCK.
func mayLock() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// NoCoreDumps sees to it that a crash writes no memory to disk and that no other process of this user can attach to
// this one or read its memory (prctl(2), PR_SET_DUMPABLE). It also makes /proc/self root's.
func NoCoreDumps() error {
	limit := os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
	mark := os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)) // also where the limit may not be set
	if err := cmp.Or(limit, mark); err != nil {
		return fmt.Errorf("secret: core dumps are not off: %w", err)
	}
	return nil
}
