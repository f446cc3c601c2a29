package tunssm

// Outbound, TUN to network, a batch at a time (queue.go):
//
//  1. readTUN: one virtio-net frame, up to 64 KiB of one flow; then those that wait behind it, as long as they are small.
//  2. classify: parse once; drop what is for no single host, and our own frames.
//  3. lookup: the session by inner destination, and its selectors (table.go).
//  4. hold or prohibit: a packet without a session goes to the acquirer (acquire.go), a forbidden one is answered.
//  5. fit: one that is longer than the path to the peer carries is answered, or is to be fragmented (path.go).
//  6. seal: each segment, from the frame it was read in into the batch (batch.go), under the peer's key.
//  7. flush: the batch, each run of it in one piece to its peer's endpoint (endpoint.go).
//
// Steps 5 and 6 are carry. The acquirer carries what it has held in the same way.
//
// A batch is what waits to be read: a lone packet is sent at once, and under load one send takes what would otherwise be
// many. Nothing is delayed to make a batch.

import (
	"bytes"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"ssmnet/packet"
)

// outbound carries packets from the TUN to the network. The loop of its queue owns it.
type outbound struct {
	*carrier
	frame []byte // read from the TUN; packets are borrowed from it until the next read
}

// carrier carries packets to their peers. One goroutine owns it: the loop has one, the acquirer another for what it
// releases.
type carrier struct {
	*dataPath
	queues   []Queue
	lane     uint8            // of the batch's frames, which go by the socket of that queue
	segments packet.Segmenter // what classify has loaded
	batch    batch
	now      time.Time        // of the batch
	refused  func(int, error) // onRefused
	answer   []byte           // an ICMP error, as a virtio-net frame
	whole    [1][]byte        // the same, as pieces
}

func newOutbound(d *dataPath, queues []Queue, lane int) *outbound {
	return &outbound{carrier: newCarrier(d, queues, lane), frame: make([]byte, packet.MaxVirtio)}
}

func newCarrier(d *dataPath, queues []Queue, lane int) *carrier {
	c := &carrier{dataPath: d, queues: queues, lane: uint8(lane), batch: newBatch(), answer: make([]byte, 0, 2048)}
	c.refused = c.onRefused
	return c
}

// send takes what the TUN has, up to a batch, and says whether there was any.
func (o *outbound) send() (some bool, err error) {
	reads := 0
	for !o.batch.full() && reads < fullFrames {
		var frame []byte
		if frame, err = o.readTUN(); len(frame) == 0 {
			break
		}
		if reads++; reads == 1 {
			o.now = time.Now()
		}
		o.forward(frame)
	}
	if reads > 0 {
		o.flush()
		o.counts.read(reads)
	}
	return reads > 0, o.outlive(err)
}

// readTUN reads one virtio-net frame, borrowed until the next call; none is there where it is empty, as it is with an error.
func (o *outbound) readTUN() ([]byte, error) {
	n, err := o.queues[o.lane].TUN.TryReadFrame(o.frame)
	return o.frame[:n], err
}

// forward takes one frame through steps 2 to 6.
func (o *outbound) forward(frame []byte) {
	p, ok := o.classify(frame)
	if !ok {
		return
	}
	o.lanes.note(p.Flow, o.lane)
	switch s, verdict := o.table.Load().lookup(p, o.segments.Bytes()); verdict {
	case verdictSend:
		o.carry(s, s.target())
	case verdictHold:
		o.hold(p.Dst, frame)
	case verdictRefuse:
		o.prohibit(frame)
	}
}

// classify loads the frame into c.segments, for carry, and parses its packet; ok is false for what goes no further.
func (c *carrier) classify(frame []byte) (p packet.Packet, ok bool) {
	if err := c.segments.Reset(frame); err != nil {
		c.drops.add(dropMalformed)
		return p, false
	}
	p = c.segments.Packet()
	if !packet.Forwardable(p.Dst) || !packet.Forwardable(p.Src) {
		c.drops.add(dropMulticast)
		return p, false
	}
	if c.origin.Load().sent(p.Flow) {
		c.drops.add(dropLoop)
		return p, false
	}
	return p, true
}

// hold hands a copy to the acquirer, which holds it by destination. The loop never waits: what does not fit is dropped.
func (o *outbound) hold(dst netip.Addr, frame []byte) {
	if len(o.toHold) >= holdBacklog/2 && !o.familiar.knows(dst) {
		o.drops.add(dropHoldFull)
		return
	}
	select {
	case o.toHold <- bytes.Clone(frame):
	default:
		o.drops.add(dropHoldFull)
	}
}

// carry seals what classify has loaded into the batch, for the targets.
func (c *carrier) carry(s *session, targets ...netip.AddrPort) {
	if !c.fit(s) {
		return
	}
	counters, _ := s.sealer.Reserve(c.lane, c.segments.Count()) // none where the session has ended: then no packet is sealed
	packets, octets := 0, 0
	for {
		pkt, partial, ok := c.segments.Next()
		if !ok {
			break
		}
		if c.seal(s, &counters, pkt, partial, targets) {
			packets++
			octets += len(pkt)
		}
	}
	if packets > 0 {
		s.tx.add(packets, octets, s.at(c.now))
	}
}

// carryNow is carry and flush for one frame.
func (c *carrier) carryNow(s *session, targets ...netip.AddrPort) {
	c.now = time.Now()
	c.lane = c.lanes.of(c.segments.Packet().Flow, 0) // that it would have by the loop, which sends those behind it
	c.carry(s, targets...)
	c.flush()
}

// fit sees to packets that are longer than the path to the peer carries: they are fragmented where they allow it, and
// otherwise refused, so that their sender makes shorter ones. The longest of a frame speaks for all. Where selectors name
// ports they permit no later fragments, which have none: there the frames are fragmented instead (flush).
func (c *carrier) fit(s *session) bool {
	longest, path := c.segments.Longest(), &s.peer.path
	if longest <= int(path.sure.Load()) {
		return true
	}
	limit := int(path.limit.Load()) // before the acquirer looks for more, and may find less: this packet still goes
	c.wantMore(s.peer)
	switch {
	case longest <= limit:
	case c.segments.Packet().DontFragment:
		c.tooBig(c.segments.Bytes(), limit)
		return false
	case s.permits(c.segments.Packet().Flow.Later()):
		c.segments.Limit(limit)
	}
	return true
}

// seal seals a packet behind the frames of the batch.
func (c *carrier) seal(s *session, counters *packet.Batch, pkt []byte, partial bool, targets []netip.AddrPort) bool {
	var flags uint8
	if partial {
		flags = packet.FlagPartial
	}
	if !c.batch.fits(len(pkt) + packet.Overhead) {
		c.flush()
	}
	frames, err := counters.Seal(c.batch.bytes, flags, pkt)
	if err != nil {
		c.drops.add(dropSeal)
		return false
	}
	c.batch.add(frames, s.peer, targets)
	return true
}

// flush sends the batch, each run to each of its targets, and begins anew.
func (c *carrier) flush() {
	b := &c.batch
	if b.empty() {
		return
	}
	for i := range b.runs {
		r := &b.runs[i]
		pieces := r.peer.path.inPieces(r.Segment)
		if pieces {
			c.sendWhole() // what came before goes before
		}
		for _, to := range r.to {
			r.Addr = to
			if pieces {
				c.sendFragmented(r.Datagrams)
				continue
			}
			b.out, b.of = append(b.out, r.Datagrams), append(b.of, r.peer)
		}
	}
	c.sendWhole()
	c.counts.sent(len(b.runs), b.frames)
	b.reset()
}

// sendWhole sends what flush has gathered.
func (c *carrier) sendWhole() {
	b := &c.batch
	c.queues[c.lane].UDP.Send(b.out, c.refused)
	b.out, b.of = b.out[:0], b.of[:0]
}

// onRefused: what the kernel finds too long for the path goes in fragments, until the path's limit is lower. A target that
// the underlay does not reach is counted, no more: the endpoint may heal.
func (c *carrier) onRefused(i int, err error) {
	if !errors.Is(err, syscall.EMSGSIZE) {
		c.drops.addMany(dropSend, frames(c.batch.out[i]))
		return
	}
	c.refusedFrame(c.batch.of[i])
	c.sendFragmented(c.batch.out[i])
}

func (c *carrier) sendFragmented(d packet.Datagrams) {
	if c.queues[c.lane].UDP.SendFragmented(d) != nil {
		c.drops.addMany(dropSend, frames(d))
	}
}

// frames is how many d has; an empty datagram is none.
func frames(d packet.Datagrams) int {
	n := 0
	for _, p := range d.Pieces {
		n += len(p)
	}
	return (n + d.Segment - 1) / max(1, d.Segment)
}
