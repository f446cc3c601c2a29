package tunssm

import (
	"sync/atomic"

	"ssmnet/packet"
)

const (
	// laneSets and laneWays are how many flows are remembered: so many in each set, of those whose hashes belong there. The one
	// that came last in a full set takes the place of another.
	laneSets = 1 << 12
	laneWays = 4
)

// lanes remembers by which queue the packets of a flow come from the TUN, where there are several. What the peer sends of
// the flow is written to that queue, whatever lane it came by: the kernel hands a flow to the queue that the other
// direction was last written to. Were that the lane, which the peer's kernel has chosen, the two could chase each other from
// queue to queue, and each time packets would overtake others. So a flow stays where its first packet was.
type lanes struct {
	sets [laneSets][laneWays]atomic.Uint64 // the hash of a flow, both ways, and below it the queue's number and one; zero is none
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
	hash := f.Hash()
	set, now := &l.sets[hash%laneSets], uint64(hash)<<8|uint64(queue+1)
	place := &set[hash/laneSets%laneWays]
	for i := range set {
		switch known := set[i].Load(); {
		case known == now:
			return
		case known>>8 == uint64(hash) && known != 0:
			set[i].Store(now)
			return
		case known == 0:
			place = &set[i]
		}
	}
	place.Store(now)
}

// of is the queue of the flow, of this direction or the other; otherwise where none has come.
func (l *lanes) of(f packet.Flow, otherwise uint8) uint8 {
	if l == nil {
		return otherwise
	}
	hash := f.Hash()
	set := &l.sets[hash%laneSets]
	for i := range set {
		if known := set[i].Load(); known>>8 == uint64(hash) && known != 0 {
			return uint8(known - 1)
		}
	}
	return otherwise
}
