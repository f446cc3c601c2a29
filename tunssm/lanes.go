package tunssm

import (
	"sync/atomic"

	"ssmnet/packet"
)

// laneSlots is how many flows are told apart; flows that share a slot may move to one queue, once.
const laneSlots = 1 << 14

// lanes remembers by which queue the packets of a flow come from the TUN, where there are several. What the peer sends of
// the flow is written to that queue, whatever lane it came by: the kernel hands a flow to the queue that the other
// direction was last written to. Were that the lane, which the peer's kernel has chosen, the two could chase each other from
// queue to queue, and each time packets would overtake others. So a flow stays where its first packet was.
type lanes struct {
	slots [laneSlots]atomic.Uint32 // by the hash of the flow, both ways: the queue's number and one
}

// newLanes has nothing to remember of a single queue.
func newLanes(queues int) *lanes {
	if queues < 2 {
		return nil
	}
	return new(lanes)
}

// note remembers that a packet of the flow came by the queue.
func (l *lanes) note(f packet.Flow, queue uint8) {
	if l == nil {
		return
	}
	if slot := &l.slots[f.Hash()%laneSlots]; slot.Load() != uint32(queue)+1 {
		slot.Store(uint32(queue) + 1)
	}
}

// of is the queue of the flow, of this direction or the other; otherwise where none has come.
func (l *lanes) of(f packet.Flow, otherwise uint8) uint8 {
	if l == nil {
		return otherwise
	}
	if n := l.slots[f.Hash()%laneSlots].Load(); n > 0 {
		return uint8(n - 1)
	}
	return otherwise
}
