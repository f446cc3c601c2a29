package tunssm

// Outbound, TUN to network, in one goroutine:
//
//  1. readTUN: one virtio-net frame, up to 64 KiB of one flow.
//  2. classify: parse once; drop what is for no single host, and our own frames.
//  3. lookup: the session by inner destination, and its selectors (table.go).
//  4. hold or prohibit: a packet without a session goes to the acquirer (acquire.go), a forbidden one is answered.
//  5. fit: one that is longer than the path to the peer carries is answered, or is to be fragmented (path.go).
//  6. seal: each segment, back to back, under the peer's key.
//  7. send: all of them at once to the peer's endpoint (endpoint.go).
//
// Steps 5 to 7 are carry. The acquirer carries what it has held in the same way.

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"syscall"

	"ssmnet/packet"
)

const (
	// maxBatchFrames and maxBatchBytes bound what one send takes (UDP_SEGMENT: 64 segments, 64 KiB with headers).
	maxBatchFrames = 64
	maxBatchBytes  = 65000
)

// outbound is the loop. One goroutine owns it.
type outbound struct {
	carrier
	frame []byte // read from the TUN; packets are borrowed from it until the next read
}

// carrier carries packets to their peers. One goroutine owns it: the loop has one, the acquirer another for what it
// releases.
type carrier struct {
	*dataPath
	segments packet.Segmenter // what classify has loaded
	batch    batch
	answer   []byte // an ICMP error, as a virtio-net frame
}

// batch is frames back to back that one send takes: none is longer than the first, and only the last is shorter.
type batch struct {
	frames  []byte
	segment int // bytes of each but the last
	count   int
}

func newOutbound(d *dataPath) *outbound {
	return &outbound{carrier: newCarrier(d), frame: make([]byte, packet.MaxVirtio)}
}

func newCarrier(d *dataPath) carrier {
	return carrier{
		dataPath: d, batch: batch{frames: make([]byte, 0, maxBatchBytes+packet.MaxVirtio)}, answer: make([]byte, 0, 2048),
	}
}

// run is the loop; it ends when the TUN is closed.
func (o *outbound) run(ctx context.Context) error {
	for {
		frame, err := o.readTUN()
		if err != nil {
			return o.lasting(ctx, "reading the TUN", err)
		}
		o.counts.read(1)
		p, ok := o.classify(frame)
		if !ok {
			continue
		}
		switch s, verdict := o.table.Load().lookup(p, o.segments.Bytes()); verdict {
		case verdictSend:
			o.carry(s, s.target())
		case verdictHold:
			o.hold(p.Dst, frame)
		case verdictRefuse:
			o.prohibit(frame)
		}
	}
}

// readTUN waits for one virtio-net frame, borrowed until the next call.
func (o *outbound) readTUN() ([]byte, error) {
	n, err := o.host.TUN.ReadFrame(o.frame)
	return o.frame[:n], err
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

// carry seals what classify has loaded and sends it to the targets.
func (c *carrier) carry(s *session, targets ...netip.AddrPort) {
	if !c.fit(s) {
		return
	}
	packets, octets := 0, 0
	for {
		out, partial, ok := c.segments.Next(c.batch.room())
		if !ok {
			break
		}
		pkt := out[len(c.batch.room()):]
		if !c.batch.takes(len(pkt) + packet.Overhead) {
			c.send(s.peer, targets)
			pkt = append(c.batch.room(), pkt...)[packet.HeaderLen:]
		}
		if !c.seal(s, pkt, partial) {
			break
		}
		packets++
		octets += len(pkt)
	}
	c.send(s.peer, targets)
	if packets > 0 {
		s.tx.add(packets, octets, s.age())
	}
}

// fit sees to packets that are longer than the path to the peer carries: they are fragmented where they allow it, and
// otherwise refused, so that their sender makes shorter ones. The longest of a frame speaks for all. Where selectors name
// ports they permit no later fragments, which have none: there the frames are fragmented instead (sendTo).
func (c *carrier) fit(s *session) bool {
	longest, path := c.segments.Longest(), &s.peer.path
	if longest <= int(path.sure.Load()) {
		return true
	}
	c.wantMore(s.peer)
	limit := int(path.limit.Load())
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

// seal seals a packet, which lies in the batch's room, behind the frames before it.
func (c *carrier) seal(s *session, pkt []byte, partial bool) bool {
	var flags uint8
	if partial {
		flags = packet.FlagPartial
	}
	frames, err := s.sealer.Seal(c.batch.frames, packet.Data, flags, pkt)
	if err != nil {
		c.drops.add(dropSeal)
		return false
	}
	c.batch.grow(frames)
	return true
}

// room is where the next packet goes, behind the room for its frame's header.
func (b *batch) room() []byte { return b.frames[:len(b.frames)+packet.HeaderLen] }

// takes says whether a frame of this length may follow in the same send.
func (b *batch) takes(length int) bool {
	full := len(b.frames) == b.count*b.segment
	return b.count == 0 ||
		full && length <= b.segment && b.count < maxBatchFrames && len(b.frames)+length <= maxBatchBytes
}

// grow takes in one more frame, which is at the end of frames.
func (b *batch) grow(frames []byte) {
	if b.count == 0 {
		b.segment = len(frames)
	}
	b.frames = frames
	b.count++
}

func (b *batch) reset() { b.frames, b.segment, b.count = b.frames[:0], 0, 0 }

// send sends what is sealed to each target and begins anew. A target that the underlay does not reach is counted, no
// more: the endpoint may heal.
func (c *carrier) send(p *peer, targets []netip.AddrPort) {
	if c.batch.count == 0 {
		return
	}
	for _, to := range targets {
		if err := c.sendTo(p, to); err != nil {
			c.drops.add(dropSend)
		}
	}
	c.counts.sent(len(targets), len(targets)*c.batch.count)
	c.batch.reset()
}

// sendTo sends in one piece what the path carries so. What is longer goes in fragments, and so does what the kernel finds
// too long, until the path's limit is lower.
func (c *carrier) sendTo(p *peer, to netip.AddrPort) error {
	b := &c.batch
	if b.segment <= frameLimit || !p.path.pieces.Load() && b.segment-packet.Overhead <= int(p.path.limit.Load()) {
		err := c.host.UDP.Send(b.frames, b.segment, to)
		if !errors.Is(err, syscall.EMSGSIZE) {
			return err
		}
		c.refusedFrame(p)
	}
	return c.host.UDP.SendFragmented(b.frames, b.segment, to)
}
