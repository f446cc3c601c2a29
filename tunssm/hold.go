package tunssm

import "net/netip"

// Bounds of the hold queue (design: drop newest, counted).
const (
	maxHeldFrames = 64        // for one destination
	maxHeldBytes  = 256 << 10 // for one destination
	maxHeldTotal  = 8 << 20   // in all
	heldOverhead  = 256       // what one held frame costs besides its bytes, so that tiny ones are bounded too
)

// holds keeps first packets while their session is acquired, in order, by inner destination.
type holds struct {
	queues map[netip.Addr]*holdQueue
	total  int
}

type holdQueue struct {
	frames [][]byte // virtio-net frames, owned
	bytes  int
}

func newHolds() *holds { return &holds{queues: map[netip.Addr]*holdQueue{}} }

func holdCost(frame []byte) int { return len(frame) + heldOverhead }

// hold takes the frame, or says that there is no room.
func (h *holds) hold(dst netip.Addr, frame []byte) bool {
	cost := holdCost(frame)
	q := h.queues[dst]
	if h.total+cost > maxHeldTotal {
		return false
	}
	if q == nil {
		q = new(holdQueue)
		h.queues[dst] = q
	} else if len(q.frames) >= maxHeldFrames || q.bytes+len(frame) > maxHeldBytes {
		return false
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame)
	h.total += cost
	return true
}

// first is the oldest frame for dst, or nil.
func (h *holds) first(dst netip.Addr) []byte {
	if q := h.queues[dst]; q != nil {
		return q.frames[0]
	}
	return nil
}

// release gives up the frames for dst for which take returns true, in order; the others stay.
func (h *holds) release(dst netip.Addr, take func(frame []byte) bool) {
	q := h.queues[dst]
	if q == nil {
		return
	}
	var kept [][]byte
	for _, f := range q.frames {
		if take(f) {
			q.bytes -= len(f)
			h.total -= holdCost(f)
		} else {
			kept = append(kept, f)
		}
	}
	if q.frames = kept; len(kept) == 0 {
		delete(h.queues, dst)
	}
}

// destinations that have frames waiting and satisfy want.
func (h *holds) destinations(want func(netip.Addr) bool) []netip.Addr {
	var list []netip.Addr
	for dst := range h.queues {
		if want(dst) {
			list = append(list, dst)
		}
	}
	return list
}
