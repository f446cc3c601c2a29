package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// TestOccupy: one process serves a directory at a time, and others may lock it and write in it meanwhile.
func TestOccupy(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "d.sock")
	socket := func() net.Listener {
		t.Helper()
		l, err := ListenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, path+".away"); err != nil { // as if somebody had removed it
			t.Fatal(err)
		}
		return l
	}
	first, err := Occupy(dir, socket())
	if err != nil {
		t.Fatal(err)
	}
	refused := func(when string) {
		t.Helper()
		second := socket()
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			want := fmt.Sprintf("another one is running (pid %d), and its socket is gone: end it with kill", os.Getpid())
			if _, err := Occupy(dir, second); !errors.Is(err, ErrRunning) || err.Error() != want || time.Since(began) < occupyTimeout {
				t.Errorf("%s: %v after %v, want %s", when, err, time.Since(began), want)
			}
		})
		if _, err := second.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the socket is still open: %v", when, err)
		}
	}
	refused("occupied")
	unlock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock() // which closes another descriptor of the directory
	refused("occupied, and locked meanwhile")
	first.Close()
	again, err := Occupy(dir, socket())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := Occupy(filepath.Join(dir, "absent"), socket()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
