package main

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

type asked struct {
	Asked  int     `json:"asked"`
	Lost   int     `json:"lost"`
	Median float64 `json:"median_us"`
	P99    float64 `json:"p99_us"`
}

// ask sends a request when the reply to the one before is there, or has not come within patience.
func (t *task) ask() (any, error) {
	fd, err := dial(t.to)
	if err != nil {
		return nil, err
	}
	b := make([]byte, max(t.size, numberLen))
	trips := make([]time.Duration, 0, t.count)
	for i := range t.count {
		sent := time.Now()
		binary.BigEndian.PutUint64(b, uint64(i))
		if _, err := unix.Write(fd, b); err != nil && !passing(err) {
			return nil, err
		}
		for {
			n, err := unix.Read(fd, b)
			if err == nil && n >= numberLen && binary.BigEndian.Uint64(b) != uint64(i) {
				continue // late
			}
			if err == nil {
				trips = append(trips, time.Since(sent))
			} else if !passing(err) {
				return nil, err
			}
			break
		}
	}
	unix.Write(fd, nil) // the end
	if len(trips) == 0 {
		return nil, errors.New("no reply came")
	}
	slices.Sort(trips)
	us := func(q float64) float64 {
		return float64(trips[int(q*float64(len(trips)-1))].Nanoseconds()) / 1e3
	}
	return asked{Asked: t.count, Lost: t.count - len(trips), Median: us(0.5), P99: us(0.99)}, nil
}

// echo ends with an empty datagram, or when nothing has come for a while.
func (t *task) echo() (any, error) {
	fd, err := listen(t.listen)
	if err != nil {
		return nil, err
	}
	var c counted
	b := make([]byte, maxDatagram)
	for start, last := time.Now(), time.Now(); ; {
		n, from, err := unix.Recvfrom(fd, b, 0)
		switch {
		case err == nil && n == 0:
			c.Seconds = time.Since(start).Seconds()
			return c, nil
		case err == nil:
			if err := unix.Sendto(fd, b[:n], 0, from); err != nil && !passing(err) {
				return nil, err
			}
			c.Datagrams, last = c.Datagrams+1, time.Now()
		case !passing(err):
			return nil, err
		case time.Since(last) > giveUp:
			return nil, errNothing
		}
	}
}
