package relay

import "time"

const (
	maxWaiting = 64 << 20 // bytes that wait in one direction; what comes on top is dropped as Overrun
	frameRoom  = 2048     // capacity of a recycled buffer: any packet of an ordinary Ethernet
	maxSpare   = 4096
)

// waiting is a frame that is on its way.
type waiting struct {
	at    time.Duration
	order uint64 // of push: frames of one moment leave as they came
	frame []byte
}

func (w waiting) before(v waiting) bool { return w.at < v.at || w.at == v.at && w.order < v.order }

// queue holds the frames on their way, the next to arrive first (a binary heap), and recycles their buffers. One
// goroutine owns it.
type queue struct {
	heap   []waiting
	pushed uint64
	bytes  int
	spare  [][]byte
}

// buffer gives an empty buffer, which push or recycle takes back.
func (q *queue) buffer() []byte {
	if n := len(q.spare); n > 0 {
		b := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return b[:0]
	}
	return make([]byte, 0, frameRoom)
}

// recycle takes back a buffer that nobody uses any more.
func (q *queue) recycle(b []byte) {
	if cap(b) == frameRoom && len(q.spare) < maxSpare {
		q.spare = append(q.spare, b)
	}
}

// push takes the frame over. It refuses what would be too much.
func (q *queue) push(at time.Duration, frame []byte) bool {
	if q.bytes+cap(frame) > maxWaiting {
		return false
	}
	q.bytes += cap(frame)
	q.heap = append(q.heap, waiting{at, q.pushed, frame})
	q.pushed++
	for i := len(q.heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if q.heap[parent].before(q.heap[i]) {
			break
		}
		q.heap[parent], q.heap[i] = q.heap[i], q.heap[parent]
		i = parent
	}
	return true
}

// next is when the first frame arrives.
func (q *queue) next() (at time.Duration, ok bool) {
	if len(q.heap) == 0 {
		return 0, false
	}
	return q.heap[0].at, true
}

// pop gives the first frame that has arrived by now.
func (q *queue) pop(now time.Duration) (frame []byte, ok bool) {
	if at, some := q.next(); !some || at > now {
		return nil, false
	}
	frame = q.heap[0].frame
	last := len(q.heap) - 1
	q.heap[0], q.heap[last] = q.heap[last], waiting{}
	q.heap = q.heap[:last]
	q.sink()
	q.bytes -= cap(frame)
	return frame, true
}

// sink moves the root down to where it belongs.
func (q *queue) sink() {
	for i := 0; ; {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(q.heap) && q.heap[child].before(q.heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		q.heap[i], q.heap[least] = q.heap[least], q.heap[i]
		i = least
	}
}
