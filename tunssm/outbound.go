package tunssm

// Outbound, TUN to network, in one goroutine:
//
//  1. readTUN: one virtio-net frame, up to 64 KiB of one flow.
//  2. classify: parse once; drop what is for no single host, and our own frames.
//  3. lookup: the session by inner destination, and its selectors.
//  4. hold or refuse: a packet without a session goes to the acquirer (acquire.go), a forbidden one is answered.
//  5. fit: one that is longer than the path to the peer carries is answered, or is to be fragmented (path.go).
//  6. seal: each segment, back to back, under the peer's key.
//  7. send: all of them at once to the peer's endpoint.

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

// outbound carries frames from the TUN to the network. One goroutine owns it: the loop has one, the acquirer another
// for what it releases.
type outbound struct {
	*dataPath
	frame    []byte // read from the TUN; packets are borrowed from it until the next read
	segments packet.Segmenter
	sealed   []byte // frames back to back
	segment  int    // bytes of each of them but the last
	count    int
	answer   []byte // an ICMP error, as a virtio-net frame
}

func newOutbound(d *dataPath) *outbound {
	return &outbound{
		dataPath: d, frame: make([]byte, packet.MaxVirtio),
		sealed: make([]byte, 0, maxBatchBytes+packet.MaxVirtio), answer: make([]byte, 0, 2048),
	}
}

// run is the loop; it ends when the TUN is closed.
func (o *outbound) run(ctx context.Context) error {
	for {
		frame, err := o.readTUN()
		if err != nil {
			return o.lasting(ctx, "reading the TUN", err)
		}
		flow, ok := o.classify(frame)
		if !ok {
			continue
		}
		t := o.table.Load()
		s, way := t.outbound(flow)
		if way != waySend {
			if e := t.carriesError(o.segments.Packet(), o.segments.Bytes()); e != nil {
				s, way = e, waySend
			}
		}
		switch way {
		case waySend:
			o.carry(s, s.target())
		case wayHold:
			o.hold(flow.Dst, frame)
		case wayRefuse:
			o.drops.add(dropDenied)
			o.refuse(packet.AdminProhibited, 0, frame[packet.VirtioLen:])
		}
	}
}

// readTUN waits for one virtio-net frame, borrowed until the next call.
func (o *outbound) readTUN() ([]byte, error) {
	n, err := o.host.TUN.ReadFrame(o.frame)
	return o.frame[:n], err
}

// classify loads the frame into o.segments and reads its flow; ok is false for what goes no further.
func (o *outbound) classify(frame []byte) (flow packet.Flow, ok bool) {
	if err := o.segments.Reset(frame); err != nil {
		o.drops.add(dropMalformed)
		return flow, false
	}
	flow = o.segments.Packet().Flow
	if !packet.Forwardable(flow.Dst) || !packet.Forwardable(flow.Src) {
		o.drops.add(dropMulticast)
		return flow, false
	}
	if o.origin.Load().sent(flow) {
		o.drops.add(dropLoop)
		return flow, false
	}
	return flow, true
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
func (o *outbound) carry(s *session, targets ...netip.AddrPort) {
	if !o.fit(s) {
		return
	}
	packets, octets := 0, 0
	for {
		n, ok := o.seal(s, targets)
		if !ok {
			break
		}
		packets++
		octets += n
	}
	o.send(s.peer, targets)
	if packets > 0 {
		s.tx.add(packets, octets, s.age())
	}
}

// fit sees to packets that are longer than the path to the peer carries: they are fragmented where they allow it, and
// otherwise refused, so that their sender makes shorter ones. The longest of a frame speaks for all. Where selectors name
// ports they permit no later fragments, which have none: there the frames are fragmented instead (sendTo).
func (o *outbound) fit(s *session) bool {
	longest, path := o.segments.Longest(), &s.peer.path
	if longest <= int(path.sure.Load()) {
		return true
	}
	o.wantMore(s.peer)
	limit := int(path.limit.Load())
	switch {
	case longest <= limit:
	case o.segments.Packet().DontFragment:
		o.drops.add(dropTooBig)
		o.refuse(packet.TooBig, limit, o.segments.Bytes())
		return false
	case s.permits(o.segments.Packet().Flow.Later()):
		o.segments.Limit(limit)
	}
	return true
}

// seal takes the next packet of the frame and seals it behind those before it. It returns the packet's bytes, or false
// when there is none left or the session can seal no more.
func (o *outbound) seal(s *session, targets []netip.AddrPort) (octets int, ok bool) {
	start := len(o.sealed)
	out, partial, ok := o.segments.Next(o.sealed[:start+packet.HeaderLen])
	if !ok {
		return 0, false
	}
	pkt := out[start+packet.HeaderLen:]
	if o.count > 0 && !o.fits(len(pkt)+packet.Overhead) {
		o.send(s.peer, targets)
		pkt = append(o.sealed[:packet.HeaderLen], pkt...)[packet.HeaderLen:]
	}
	var flags uint8
	if partial {
		flags = packet.FlagPartial
	}
	sealed, err := s.sealer.Seal(o.sealed, packet.Data, flags, pkt)
	if err != nil {
		o.drops.add(dropSeal)
		return 0, false
	}
	if o.count == 0 {
		o.segment = len(sealed)
	}
	o.sealed = sealed
	o.count++
	return len(pkt), true
}

// fits says whether a frame of this length may follow in the same send: none may be longer than the first, and none may
// follow a shorter one.
func (o *outbound) fits(length int) bool {
	full := len(o.sealed) == o.count*o.segment
	return full && length <= o.segment && o.count < maxBatchFrames && len(o.sealed)+length <= maxBatchBytes
}

// send sends what is sealed to each target and begins anew. A target that the underlay does not reach is counted, no
// more: the endpoint may heal.
func (o *outbound) send(p *peer, targets []netip.AddrPort) {
	if o.count == 0 {
		return
	}
	for _, to := range targets {
		if err := o.sendTo(p, to); err != nil {
			o.drops.add(dropSend)
		}
	}
	o.sealed, o.segment, o.count = o.sealed[:0], 0, 0
}

// sendTo sends in one piece what the path carries so. What is longer goes in fragments, and so does what the kernel finds
// too long, until the path's limit is lower.
func (o *outbound) sendTo(p *peer, to netip.AddrPort) error {
	if o.segment <= frameLimit || !p.path.pieces.Load() && o.segment-packet.Overhead <= int(p.path.limit.Load()) {
		err := o.host.UDP.Send(o.sealed, o.segment, to)
		if !errors.Is(err, syscall.EMSGSIZE) {
			return err
		}
		o.refusedFrame(p)
	}
	return o.host.UDP.SendFragmented(o.sealed, o.segment, to)
}

// refuse answers a packet with an ICMP error, as the next router would, or, where it belongs to a TCP
// connection that a narrowed session has cut, with a reset: connections that are established take no heed of ICMP
// (RFC 5927, section 5.2). The source is the packet's destination: the kernel takes none from its own addresses (martians).
func (o *outbound) refuse(cause packet.Cause, mtu int, original []byte) {
	p, err := packet.Parse(original)
	if err != nil || !o.answers.Allow() {
		return
	}
	answer, ok := append(o.answer[:0], make([]byte, packet.VirtioLen)...), false
	if cause == packet.AdminProhibited && o.table.Load().cutFlow(p.Flow) {
		answer, ok = packet.AppendReset(answer, original)
	}
	if !ok {
		answer, ok = packet.AppendError(answer, cause, mtu, p.Dst, original)
	}
	if !ok {
		return
	}
	if _, err := o.host.TUN.WriteFrame(answer); err != nil {
		o.drops.add(dropTUN)
	}
}
