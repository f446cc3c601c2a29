package tunssm

import (
	"net/netip"
	"slices"

	"ssmnet/packet"
)

// Bounds of the hold queue (design: drop newest, counted).
const (
	maxHeldFrames = 64        // for one destination
	maxHeldBytes  = 256 << 10 // for one destination
	maxHeldTotal  = 8 << 20   // in all
	fairShare     = 2         // frames of one service that a flood of another leaves room for
	heldOverhead  = 256       // what one held frame costs besides its bytes, so that tiny ones are bounded too
)

// holds keeps first packets while their session is acquired, in order, by inner destination.
type holds struct {
	queues map[netip.Addr]*holdQueue
	total  int
}

type holdQueue struct {
	frames []held
	bytes  int
}

// held is one virtio-net frame, owned, and its flow.
type held struct {
	flow  packet.Flow
	frame []byte
}

func newHolds() *holds { return &holds{queues: map[netip.Addr]*holdQueue{}} }

func holdCost(frame []byte) int { return len(frame) + heldOverhead }

// hold takes the frame, or says that there is no room. At a destination that is full the first frames of one service
// take the place of the last of another that has many, so that a flood of one does not starve the rest; dropped says
// how many went.
func (h *holds) hold(flow packet.Flow, frame []byte) (ok bool, dropped int) {
	cost := holdCost(frame)
	q := h.queues[flow.Dst]
	if h.total+cost > maxHeldTotal {
		return false, 0
	}
	if q == nil {
		q = new(holdQueue)
	}
	for len(q.frames) >= maxHeldFrames || q.bytes+len(frame) > maxHeldBytes {
		at := q.excess(serviceOf(flow))
		if at < 0 {
			return false, dropped
		}
		out := q.frames[at].frame
		q.frames = slices.Delete(q.frames, at, at+1)
		q.bytes -= len(out)
		h.total -= holdCost(out)
		dropped++
	}
	q.frames = append(q.frames, held{flow, frame})
	q.bytes += len(frame)
	h.total += cost
	h.queues[flow.Dst] = q
	return true, dropped
}

// excess is the place of the frame that makes room for one of key: the last of the service that has the most frames,
// where that is more than fairShare and key has less. It is -1 where there is none.
func (q *holdQueue) excess(key service) int {
	count := map[service]int{}
	for _, f := range q.frames {
		count[serviceOf(f.flow)]++
	}
	if count[key] >= fairShare {
		return -1
	}
	most := -1
	for at, f := range q.frames {
		if n := count[serviceOf(f.flow)]; n > fairShare && (most < 0 || n >= count[serviceOf(q.frames[most].flow)]) {
			most = at
		}
	}
	return most
}

// waiting says whether there are frames for dst.
func (h *holds) waiting(dst netip.Addr) bool { return h.queues[dst] != nil }

// next is the flow of the oldest frame for dst that satisfies want.
func (h *holds) next(dst netip.Addr, want func(packet.Flow) bool) (flow packet.Flow, ok bool) {
	if q := h.queues[dst]; q != nil {
		for _, f := range q.frames {
			if want(f.flow) {
				return f.flow, true
			}
		}
	}
	return flow, false
}

// release gives up the frames for dst for which take returns true, in order; the others stay.
func (h *holds) release(dst netip.Addr, take func(held) bool) {
	q := h.queues[dst]
	if q == nil {
		return
	}
	var kept []held
	for _, f := range q.frames {
		if take(f) {
			q.bytes -= len(f.frame)
			h.total -= holdCost(f.frame)
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
