package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// stale leaves a socket at path that no process listens on.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("no socket left behind: ", err)
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sock")
	stale(t, path)
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ListenUnix(path)
	want := fmt.Sprintf("another one is running (pid %d): it answers on %s", os.Getpid(), path)
	if !errors.Is(err, ErrRunning) || err.Error() != want {
		t.Errorf("a second one: %v, want %s", err, want)
	}
	for range 2 {
		l.Close()
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("closed, and the socket is there: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Nobody else may open the socket, not even between its making and a chmod.
func TestListenUnixMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sock")
	for _, umask := range []int{0, 0o077, 0o277} {
		old := syscall.Umask(umask)
		done, seen := make(chan struct{}), make(chan map[fs.FileMode]bool)
		go func() {
			modes := map[fs.FileMode]bool{}
			for {
				if info, err := os.Lstat(path); err == nil {
					modes[info.Mode().Perm()] = true
				}
				select {
				case <-done:
					seen <- modes
					return
				default:
				}
			}
		}()
		for range 200 {
			l, err := ListenUnix(path)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != socketMode {
				t.Fatalf("umask %o: %v %v", umask, info.Mode(), err)
			}
			l.Close()
		}
		close(done)
		for mode := range <-seen {
			if mode&^socketMode != 0 {
				t.Errorf("umask %o: the socket was %o for a moment", umask, mode)
			}
		}
		syscall.Umask(old)
	}
}

func TestListenUnixRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sock")
	for range 20 {
		stale(t, path)
		var group sync.WaitGroup
		var mu sync.Mutex
		var won []net.Listener
		for range 8 {
			group.Go(func() {
				l, err := ListenUnix(path)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, l)
				} else if !errors.Is(err, ErrRunning) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(won) != 1 {
			t.Fatalf("%d of 8 listen", len(won))
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal("the winner cannot be reached: ", err)
		}
		conn.Close()
		won[0].Close()
	}
}

func TestListenUnixErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in its place: %v", err)
	}
	if b, err := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file has become %q %v", b, err)
	}
	if _, err := ListenUnix(filepath.Join(dir, "absent", "d.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	base := t.TempDir() + "/"
	longest := base + strings.Repeat("s", socketPath-len(base))
	if _, err := ListenUnix(longest + "s"); !errors.Is(err, errPathTooLong) {
		t.Errorf("%d bytes: %v", len(longest)+1, err)
	}
	l, err := ListenUnix(longest)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(longest), err)
	}
	l.Close()
}

// A listener that closes late must not take away the socket of the one that came after it.
func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.sock")
	first, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil { // keeps its inode in use
		t.Fatal(err)
	}
	second, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal("the second's socket is gone: ", err)
	}
	conn.Close()
}
