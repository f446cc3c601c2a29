package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Occupy marks a state directory as served by this process until release, or until its end: its socket alone would not
// say so once somebody has removed that. Where another process serves it the error is ErrRunning, which names that
// process. Whoever has the socket is alone in asking.
//
// The mark is a read lock of the open directory, which needs no file of its own and which LockDir (flock) does not meet.
// A file system without such locks has none, and there the socket alone says it.
func Occupy(dir string) (release func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK} // which any lock of another is in the way of
	if unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &whole) == nil && whole.Type != unix.F_UNLCK {
		f.Close()
		return nil, &socketError{ErrRunning, fmt.Sprintf("%v%s, and its socket is gone: end it with kill", ErrRunning,
			holder(dir)), exitFailed}
	}
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	return func() { f.Close() }, nil
}

// holder is " (pid 42)" of another process that has the directory open, where /proc shows one: the kernel does not tell
// who has such a lock.
func holder(dir string) string {
	dir, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	links, _ := filepath.Glob("/proc/[1-9]*/fd/*")
	for _, link := range links {
		pid := strings.Split(link, "/")[2]
		if to, gone := os.Readlink(link); err == nil && gone == nil && to == dir && pid != strconv.Itoa(os.Getpid()) {
			return " (pid " + pid + ")"
		}
	}
	return ""
}
