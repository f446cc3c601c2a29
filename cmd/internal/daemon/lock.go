package daemon

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockTimeout = 5 * time.Second
	lockPause   = 5 * time.Millisecond
)

// LockDir takes the advisory lock of a directory, waiting for whoever has it: after five seconds the error is ErrLocked.
// The lock needs no file of its own, so none is left behind, and it ends with the process. Where the directory is removed
// in the meantime the error is fs.ErrNotExist.
func LockDir(dir string) (unlock func(), err error) {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockPause) {
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, dir) {
			return func() { f.Close() }, nil
		}
		f.Close()
		switch {
		case err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
	}
}

// isAt says whether the open directory is still the one at that path: the lock of one that was removed keeps nobody out.
func isAt(f *os.File, dir string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(dir)
	return err == nil && os.SameFile(opened, now)
}
