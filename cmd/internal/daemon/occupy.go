package daemon

import (
	"fmt"
	"net"
	"os"
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
// It is of the one byte that has the process's id for an offset: the kernel does not tell who has a lock of this kind, and
// what /proc tells of a daemon is for those with more privilege than a start has left. A file system without such locks
// has none, and there the socket alone says it.
func Occupy(dir string, socket net.Listener) (net.Listener, error) {
	f, err := os.Open(dir)
	if err != nil {
		socket.Close()
		return nil, err
	}
	for deadline := time.Now().Add(occupyTimeout); ; time.Sleep(lockPause) {
		pid, occupied := occupant(f)
		if !occupied {
			break
		}
		if time.Now().After(deadline) {
			f.Close()
			socket.Close()
			return nil, &socketError{ErrRunning, fmt.Sprintf("%v (pid %d), and its socket is gone: end it with kill",
				ErrRunning, pid), exitFailed}
		}
	}
	mark := unix.Flock_t{Type: unix.F_RDLCK, Start: int64(os.Getpid()), Len: 1}
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &mark)
	return occupier{socket, f}, nil
}

// Occupant is the process that serves a state directory, where one has marked it.
func Occupant(dir string) (pid int, occupied bool) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	by, occupied := occupant(f)
	return int(by), occupied
}

// occupant is the process that another open of the directory is marked with, if one is.
func occupant(dir *os.File) (pid int64, occupied bool) {
	found := unix.Flock_t{Type: unix.F_WRLCK} // of all, which any lock is in the way of
	err := unix.FcntlFlock(dir.Fd(), unix.F_OFD_GETLK, &found)
	return found.Start, err == nil && found.Type != unix.F_UNLCK
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
