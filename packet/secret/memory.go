package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// LockMemory keeps all memory of the process, present and future, out of swap (mlockall(2)), page by page as each is
// first touched: without MCL_ONFAULT a Go program would be made resident whole.
//
// It does so where the limit of locked memory is none or can be raised to that, or where CAP_IPC_LOCK passes over it;
// the process must then keep that capability. Under a limit the kernel would refuse the next growth of the heap, and
// the program would end: so there LockMemory changes nothing, and returns ErrNotLocked with what to do.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("%w: getrlimit: %w", ErrNotLocked, err)
	}
	if limit.Cur != unix.RLIM_INFINITY {
		none := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &none); err != nil && !mayLock() {
			return fmt.Errorf("%w: the limit is %d KiB: set LimitMEMLOCK=infinity (systemd) or ulimit -l unlimited",
				ErrNotLocked, limit.Cur/1024)
		}
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("%w: mlockall: %w", ErrNotLocked, err)
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
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("secret: core dumps are not off: setrlimit: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("secret: core dumps are not off: prctl: %w", err)
	}
	return nil
}
