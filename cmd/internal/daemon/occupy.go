package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// occupyTimeout is for one that was killed, whose socket the kernel closes a moment before all the rest.
const occupyTimeout = time.Second

// Occupy marks a state directory as served by this process for as long as its socket is open, which alone would not say
// so once somebody has removed that. Where another process serves the directory the error is ErrRunning, which names that
// process, and the socket is closed. Whoever has the socket is alone in asking.
//
// The mark is a read lock of the open directory, which needs no file of its own and which LockDir (flock) does not meet.
// A file system without such locks has none, and there the socket alone says it.
func Occupy(dir string, socket net.Listener) (net.Listener, error) {
	f, err := os.Open(dir)
	if err != nil {
		socket.Close()
		return nil, err
	}
	for deadline := time.Now().Add(occupyTimeout); occupied(f); time.Sleep(lockPause) {
		if time.Now().After(deadline) {
			f.Close()
			socket.Close()
			return nil, &socketError{ErrRunning, fmt.Sprintf("%v%s, and its socket is gone: end it with kill", ErrRunning,
				holder(dir)), exitFailed}
		}
	}
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	return occupier{socket, f}, nil
}

// occupied says whether another open of the directory has a lock.
func occupied(dir *os.File) bool {
	whole := unix.Flock_t{Type: unix.F_WRLCK} // which any lock is in the way of
	return unix.FcntlFlock(dir.Fd(), unix.F_OFD_GETLK, &whole) == nil && whole.Type != unix.F_UNLCK
}

// occupier is a socket with the mark of its directory.
type occupier struct {
	net.Listener
	dir *os.File
}

// Close takes the mark away first: whoever waits for the socket to go may be next.
func (o occupier) Close() error {
	o.dir.Close()
	return o.Listener.Close()
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
