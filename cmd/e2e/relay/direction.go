package relay

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// One goroutine runs a direction:
//
//  1. wait for a frame, or until one on its way arrives, or for the end (wait)
//  2. take frames in: pass them, or cut them and decide on each packet (receive, decide)
//  3. send what arrives (deliver)

const (
	burst     = 16 // frames taken in before the end is looked for again
	lookAgain = 100 * time.Millisecond
)

// direction is one way through the relay. Its goroutine owns all but settings and count.
type direction struct {
	from, to *port
	stop     int // descriptor that becomes readable at the end
	began    time.Time

	settings atomic.Pointer[Settings]
	count    counters

	line  *Line
	queue queue
	cut   cutter
	in    [maxFrame + 1]byte
}

// run works until stop becomes readable, or fails with ErrGone.
func (d *direction) run() error {
	for d.wait() {
		for range burst {
			n := d.from.read(d.in[:])
			if n == 0 {
				break
			}
			d.receive(d.in[:n])
			d.deliver()
		}
		d.deliver()
		if err := d.from.gone(); err != nil {
			return err
		}
	}
	return nil
}

func (d *direction) now() time.Duration { return time.Since(d.began) }

// wait returns false when the end has come.
func (d *direction) wait() bool {
	timeout := time.Duration(-1)
	if at, some := d.queue.next(); some {
		timeout = max(0, at-d.now())
	} else if d.from.down {
		timeout = lookAgain
	}
	fds := []unix.PollFd{{Fd: int32(d.stop), Events: unix.POLLIN}, {Fd: int32(d.from.fd), Events: unix.POLLIN}}
	if _, err := poll(fds, timeout); err != nil {
		return true // EINTR
	}
	return fds[0].Revents == 0
}

// receive takes one frame in.
func (d *direction) receive(frame []byte) {
	s, now := d.settings.Load(), d.now()
	d.count.frames.Add(1)
	if len(frame) < headerLen || len(frame) > maxFrame { // cut off by the end of the buffer
		d.count.refused.Add(1)
		return
	}
	if s.idle() && d.line.clear(now) || !s.Only.concerns(frame) {
		d.deliver() // whose time has come before this frame came
		d.count.passed.Add(1)
		d.send(frame)
		return
	}
	if !d.cut.reset(frame) {
		d.decide(s, now, append(d.queue.buffer(), frame...), false)
		return
	}
	for {
		packet, ok := d.cut.next(d.queue.buffer())
		if !ok {
			d.queue.recycle(packet)
			return
		}
		d.decide(s, now, packet, true)
	}
}

// decide sends a packet, in a buffer of the queue, on its way. isIP says that the cutter made it.
func (d *direction) decide(s *Settings, now time.Duration, packet []byte, isIP bool) {
	fate := d.line.Decide(s, now, len(packet)-headerLen+etherLen)
	d.count.decided(fate)
	for i, c := range fate.Copies[:fate.N] {
		frame := packet
		if i+1 < fate.N {
			frame = append(d.queue.buffer(), packet...)
		}
		if c.Corrupted && isIP && d.cut.corrupt(frame, c.Noise, s.Mend) {
			d.count.corrupted.Add(1)
		}
		if !d.queue.push(c.At, frame) {
			d.count.overrun.Add(1)
			d.queue.recycle(frame)
		}
	}
	if fate.N == 0 {
		d.queue.recycle(packet)
	}
}

// deliver sends the frames that have arrived.
func (d *direction) deliver() {
	if _, some := d.queue.next(); !some {
		return
	}
	now := d.now()
	for {
		frame, ok := d.queue.pop(now)
		if !ok {
			return
		}
		d.send(frame)
		d.queue.recycle(frame)
	}
}

func (d *direction) send(frame []byte) {
	if d.to.write(frame) {
		d.count.sent.Add(1)
	} else {
		d.count.refused.Add(1)
	}
}
