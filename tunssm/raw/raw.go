// Package raw moves bytes through a descriptor that the runtime's poller knows nothing of.
//
// The poller has one thread wait for all descriptors, which then finds the goroutine, a processor and a thread to run it
// on. A data path that moves millions of packets has goroutines of its own to wait: each waits for its descriptor in
// poll(2), in its own thread, which the kernel wakes for the first packet.
//
//	read, recvmmsg, writev, sendmmsg   never wait (O_NONBLOCK): EAGAIN
//	Wait, Either                       poll(2) of one descriptor, or two, and of an event that Stop triggers
//
// What never waits keeps its processor (RawSyscall): it is at work for all of its time, up to some 50 us for 64 KiB, and
// delays the start of a collection by no more than that. To tell the scheduler of each call (Syscall) cost a tenth more CPU
// for a stream of TCP, and a third of the small packets. Only waiting gives the processor up; that it keep it for the first 50
// or 300 us gained nothing.
//
// After Stop, Read, Receive and waiting fail with net.ErrClosed, and after Close all do.
package raw

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptor is one of the kernel's. One goroutine reads at a time; any number write.
type Descriptor struct {
	fd    int
	event int // an eventfd; once written it stays readable, and nobody waits any more
	state atomic.Int32

	mu sync.Mutex // what changes state
}

// The states, in their order.
const (
	open = int32(iota)
	stopped
	closed
)

// New takes over fd, which is O_NONBLOCK. On an error it has closed it.
func New(fd int) (*Descriptor, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("raw: make an event: %w", err)
	}
	return &Descriptor{fd: fd, event: event}, nil
}

// Control lends the descriptor out.
func (d *Descriptor) Control(f func(fd int) error) error {
	if d.state.Load() == closed {
		return net.ErrClosed
	}
	return f(d.fd)
}

// Wait waits until the descriptor may have what is asked for (POLLIN, POLLOUT), an error, or has been stopped.
// A limit below zero is none; after it Wait returns as if there were something.
func (d *Descriptor) Wait(events int16, limit time.Duration) error {
	milliseconds := -1
	if limit >= 0 {
		milliseconds = int(limit.Milliseconds())
	}
	for d.state.Load() == open {
		both := [2]unix.PollFd{{Fd: int32(d.fd), Events: events}, {Fd: int32(d.event), Events: unix.POLLIN}}
		if _, err := unix.Poll(both[:], milliseconds); err != unix.EINTR {
			return err
		}
	}
	return net.ErrClosed
}

// Either waits until one of two may be read, has an error, or has been stopped.
func Either(a, b *Descriptor) error {
	for a.state.Load() == open && b.state.Load() == open {
		all := [4]unix.PollFd{
			{Fd: int32(a.fd), Events: unix.POLLIN}, {Fd: int32(b.fd), Events: unix.POLLIN},
			{Fd: int32(a.event), Events: unix.POLLIN}, {Fd: int32(b.event), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(all[:], -1); err != unix.EINTR {
			return err
		}
	}
	return net.ErrClosed
}

// Read is one read.
func (d *Descriptor) Read(b []byte) (int, error) {
	if d.state.Load() != open {
		return 0, net.ErrClosed
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

// Write is one writev.
func (d *Descriptor) Write(pieces []unix.Iovec) (int, error) {
	if d.state.Load() == closed {
		return 0, net.ErrClosed
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(pieces))), uintptr(len(pieces)))
	return result(n, errno)
}

// Receive is one recvmmsg: it fills messages from the first, and gives how many.
func (d *Descriptor) Receive(messages []unix.Mmsghdr) (int, error) {
	if d.state.Load() != open {
		return 0, net.ErrClosed
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(messages))),
		uintptr(len(messages)), 0, 0, 0)
	return result(n, errno)
}

// Send is one sendmmsg: it gives how many of messages, from the first, have gone. An error is about the first, and none
// has gone.
func (d *Descriptor) Send(messages []unix.Mmsghdr) (int, error) {
	if d.state.Load() == closed {
		return 0, net.ErrClosed
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(d.fd), uintptr(unsafe.Pointer(unsafe.SliceData(messages))),
		uintptr(len(messages)), 0, 0, 0)
	return result(n, errno)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Stop wakes who waits. Any goroutine may stop it, at any time and more than once.
func (d *Descriptor) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.CompareAndSwap(open, stopped) {
		_, _ = unix.Write(d.event, []byte{7: 1}) // the counter is 0: it has room
	}
}

// Close closes the descriptor once nobody uses it any more; another may get its number. Closing twice does nothing more.
func (d *Descriptor) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state.Swap(closed) == closed {
		return nil
	}
	unix.Close(d.event)
	return unix.Close(d.fd)
}
