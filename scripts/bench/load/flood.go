package main

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const batch = 64 // datagrams in a system call

// message is the kernel's struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      uint32
}

// messages point each at a buffer of its own, or all at the one.
func messages(size int, same bool) []message {
	m := make([]message, batch)
	bytes := make([]byte, size*batch)
	pieces := make([]unix.Iovec, batch)
	for i := range m {
		at := 0
		if !same {
			at = i * size
		}
		pieces[i].Base = &bytes[at]
		pieces[i].SetLen(size)
		m[i].header.Iov = &pieces[i]
		m[i].header.SetIovlen(1)
	}
	return m
}

// call is sendmmsg(2) or recvmmsg(2): how many of the messages went or came.
func call(number uintptr, fd int, m []message, flags int) (int, error) {
	n, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// flood sends what is due by the rate and sleeps while nothing is. What it did not get to send in time it catches up with
// in four batches at most: more in a row would be a burst, not a rate.
func (t *task) flood() (any, error) {
	fd, err := dial(t.to)
	if err != nil {
		return nil, err
	}
	m, n := messages(t.size, true), 0
	start, due := time.Now(), 0.0
	for last := start; ; {
		now := time.Now()
		if now.Sub(start) >= t.duration() {
			return counted{Datagrams: n, Seconds: now.Sub(start).Seconds()}, nil
		}
		due, last = min(due+now.Sub(last).Seconds()*t.rate, 4*batch), now
		next := batch
		if t.rate > 0 {
			next = min(batch, int(due))
		}
		if next == 0 {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		k, err := call(unix.SYS_SENDMMSG, fd, m[:next], 0)
		if err != nil && !passing(err) {
			return nil, err
		}
		n, due = n+k, due-float64(next)
	}
}

// sink counts what comes from the first datagrams on, which are not counted: their time was before. It takes them in as
// large runs as the kernel joins them to (UDP_GRO) and so costs the others least; they are counted by their bytes.
func (t *task) sink() (any, error) {
	fd, err := listen(t.listen)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		return nil, err
	}
	m, c := messages(maxDatagram, false), counted{}
	var start time.Time
	for waited := time.Now(); c.Seconds < t.seconds; {
		n, err := call(unix.SYS_RECVMMSG, fd, m, unix.MSG_WAITFORONE)
		if err != nil && !passing(err) {
			return nil, err
		}
		switch now := time.Now(); {
		case start.IsZero() && n > 0:
			start = now
		case start.IsZero() && now.Sub(waited) > giveUp:
			return nil, errNothing
		case !start.IsZero():
			for i := range m[:n] {
				c.Bytes += int(m[i].length)
			}
			c.Seconds = now.Sub(start).Seconds()
		}
	}
	c.Datagrams = c.Bytes / t.size
	return c, nil
}
