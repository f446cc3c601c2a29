package tunssm

import "sync/atomic"

// counts says how well the loops batch: few system calls for many frames. Each loop adds once a batch; any goroutine may.
type counts struct {
	outbound struct{ batches, reads, sends, frames atomic.Uint64 }
	inbound  struct{ batches, receives, frames, writes, packets atomic.Uint64 }
}

// read counts a batch of what the TUN gave.
func (c *counts) read(reads int) {
	c.outbound.batches.Add(1)
	c.outbound.reads.Add(uint64(reads))
}

// sent counts what the underlay was given in so many pieces.
func (c *counts) sent(sends, frames int) {
	c.outbound.sends.Add(uint64(sends))
	c.outbound.frames.Add(uint64(frames))
}

// received counts a batch of what the underlay brought in so many pieces.
func (c *counts) received(receives, frames int) {
	c.inbound.batches.Add(1)
	c.inbound.receives.Add(uint64(receives))
	c.inbound.frames.Add(uint64(frames))
}

// wrote counts what the TUN was given, so many packets joined in so many writes.
func (c *counts) wrote(writes, packets int) {
	c.inbound.writes.Add(uint64(writes))
	c.inbound.packets.Add(uint64(packets))
}

// status is the counters as they are: a batch under way may be among some and not yet among others.
func (c *counts) status() (OutboundStatus, InboundStatus) {
	o, i := &c.outbound, &c.inbound
	return OutboundStatus{
			Batches: o.batches.Load(), Reads: o.reads.Load(), Sends: o.sends.Load(), Frames: o.frames.Load(),
		}, InboundStatus{
			Batches: i.batches.Load(), Receives: i.receives.Load(), Frames: i.frames.Load(),
			Writes: i.writes.Load(), Packets: i.packets.Load(),
		}
}
