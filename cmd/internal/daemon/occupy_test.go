package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestOccupy: one process serves a directory at a time, and others may lock it and write in it meanwhile.
func TestOccupy(t *testing.T) {
	dir := t.TempDir()
	release, err := Occupy(dir)
	if err != nil {
		t.Fatal(err)
	}
	const want = "another one is running, and its socket is gone: end it with kill" // without a pid, which is ours
	if _, err := Occupy(dir); !errors.Is(err, ErrRunning) || err.Error() != want {
		t.Errorf("occupied: %v, want %s", err, want)
	}
	unlock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock() // which closes another descriptor of the directory
	if _, err := Occupy(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("occupied, and locked meanwhile: %v", err)
	}
	release()
	if release, err = Occupy(dir); err != nil {
		t.Fatal(err)
	}
	release()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := Occupy(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
