package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// One at a time has the lock, whoever comes later waits for it.
func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	var inside atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			unlock, err := LockDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d have the lock at once", n)
			}
			runtime.Gosched()
			inside.Add(-1)
		})
	}
	group.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestLockDirErrors(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		unlock, err := LockDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		began := time.Now()
		if _, err := LockDir(dir); !errors.Is(err, ErrLocked) || time.Since(began) < lockTimeout {
			t.Errorf("locked by another: %v after %v", err, time.Since(began))
		}
	})
	if _, err := LockDir(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// The lock of a directory that was removed and made anew is not that of the new one.
func TestLockDirRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	for _, anew := range []bool{false, true} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !isAt(f, dir) {
			t.Error("the directory is not where it was made")
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if anew {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if isAt(f, dir) {
			t.Errorf("a directory that is gone passes for the one at its path (made anew: %t)", anew)
		}
	}
}
