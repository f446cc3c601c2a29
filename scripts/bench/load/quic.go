package main

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

const (
	smallest, largest = 1200, 1372    // bytes in a datagram, from run to run: 1372 is what a tunnel of 1400 carries
	run               = 40            // datagrams in a send
	window            = 1 << 20       // bytes on their way
	ackEvery          = 16 * smallest // bytes that an acknowledgment waits for where datagrams come singly
	numberLen         = 8             // in front of each datagram: the bytes sent before it; an acknowledgment: those that came
)

// sender has a window of bytes on their way.
type sender struct {
	fd          int
	sent, acked uint64
}

// quic sends as fast as the window allows.
func (t *task) quic() (any, error) {
	fd, err := dial(t.to)
	if err != nil {
		return nil, err
	}
	s, bytes, c := sender{fd: fd}, make([]byte, run*largest), counted{}
	for start, size := time.Now(), smallest; ; c.Datagrams += run {
		if err := s.hear(); err != nil {
			return nil, err
		}
		if now := time.Now(); now.Sub(start) >= t.duration() {
			c.Bytes, c.Seconds = int(s.sent), now.Sub(start).Seconds()
			return c, nil
		}
		if size += 4; size > largest {
			size = smallest
		}
		for i := range run {
			binary.BigEndian.PutUint64(bytes[i*size:], s.sent)
			s.sent += uint64(size)
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, size); err != nil {
			return nil, err
		}
		if _, err := unix.Write(fd, bytes[:run*size]); err != nil && !passing(err) {
			return nil, err
		}
	}
}

// hear takes the acknowledgments that are there and, while the window is full, waits for more. One is for all that was
// sent before: what was lost is not sent again, it has left the window. So has everything where none comes.
func (s *sender) hear() error {
	var ack [numberLen]byte
	for {
		flags := unix.MSG_DONTWAIT
		if s.sent-s.acked >= window {
			flags = 0
		}
		n, _, err := unix.Recvfrom(s.fd, ack[:], flags)
		switch {
		case err == nil && n == numberLen:
			s.acked = max(s.acked, min(binary.BigEndian.Uint64(ack[:]), s.sent))
		case err == unix.EAGAIN && flags == 0:
			s.acked = s.sent
		case err == unix.EAGAIN:
			return nil
		case err != nil && !passing(err):
			return err
		}
	}
}

// acknowledge takes datagrams in as large runs as the kernel joins them to (UDP_GRO).
func (t *task) acknowledge() (any, error) {
	fd, err := listen(t.listen)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		return nil, err
	}
	b := make([]byte, maxDatagram)
	if err := meet(fd, b); err != nil {
		return nil, err
	}
	bytes, since := 0, 0
	for start := time.Now(); ; {
		n, err := unix.Read(fd, b)
		if err != nil && !passing(err) {
			return nil, err
		}
		bytes, since = bytes+max(n, 0), since+max(n, 0)
		if n >= numberLen && (n > largest || since >= ackEvery) {
			binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)+uint64(n))
			if _, err := unix.Write(fd, b[:numberLen]); err != nil && !passing(err) {
				return nil, err
			}
			since = 0
		}
		if past := time.Since(start); past >= t.duration() {
			return counted{Bytes: bytes, Seconds: past.Seconds()}, nil
		}
	}
}

// meet waits for the first datagram and connects the socket to where it came from.
func meet(fd int, b []byte) error {
	for start := time.Now(); ; {
		_, from, err := unix.Recvfrom(fd, b, 0)
		switch {
		case err == nil:
			return unix.Connect(fd, from)
		case !passing(err):
			return err
		case time.Since(start) > giveUp:
			return errNothing
		}
	}
}
