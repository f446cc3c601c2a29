package packet

// Inbound: packets of one flow that follow one another become one virtio-net frame, to be written to the TUN at once.
// Nothing is copied: a run is the first packet whole and the payloads of the others, where they were opened.
//
//  1. Add looks for the open run of the packet's flow.
//  2. joins asks whether the packet continues it: the rules of the kernel's GRO (gro.h, tcp_offload.c, udp_offload.c), so
//     that the kernel cutting the frame again would give the packets back.
//  3. Where it does, its payload is added; where not, that run is closed and the packet starts another (start).
//  4. Next finishes the oldest run: the headers of the first packet become those of the whole, behind a virtio-net header.
//
// Packets of one flow keep their order: a flow has one open run at most, and what does not join it comes in a later one.

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const (
	maxRuns      = 64  // kept at once; Coalescer.open has a bit for each
	maxSegments  = 128 // packets of a TCP run, so that one write takes few pieces
	maxDatagrams = 64  // of a UDP run: what a kernel takes in one frame; newer ones take 128
)

// Coalescer joins packets into virtio-net frames. The zero value is ready. One goroutine owns it.
type Coalescer struct {
	runs  [maxRuns]run // a ring
	first int          // the oldest run
	count int          // runs from first on
	open  uint64       // bit i: runs[i] may go on
	last  *run         // that Next returned

	// UDPApart leaves datagrams as they are, for a kernel that takes no super-packets of UDP (before Linux 6.2).
	UDPApart bool
}

// run is packets that were joined, or a packet that stays alone. It borrows their bytes.
type run struct {
	pieces  [][]byte // virtio-net header and first packet; payloads. The slice is kept for the next run
	first   []byte   // the first packet
	p       Packet   // what Parse made of the first packet
	header  int      // bytes of IP and transport header
	gso     int      // payload bytes of each packet but the last
	total   int      // bytes of the whole as one packet
	nextSeq uint32   // of the TCP packet that continues it
	nextID  uint16   // IPv4 identification of the packet that continues it
	fixedID bool     // nextID stays the same
	flags   uint8    // FIN and PSH of the last packet
	partial bool     // the first packet's checksum is partial
	trusted bool     // the first packet's checksum is partial or was verified
}

// Add takes a packet, b[VirtioLen:], of which p is what Parse made; partial is FlagPartial of its frame. b, whose first
// bytes are room for a virtio-net header, is borrowed and changed until Next has returned the packet's run and what it
// returned is no longer used. The error is CheckPartial's; the packet is then refused, and nothing borrowed or changed. Add
// must not be called while Full.
func (c *Coalescer) Add(b []byte, p *Packet, partial bool) error {
	b = b[:VirtioLen+p.Total]
	pkt := b[VirtioLen:]
	at := c.find(p)
	if at >= 0 && c.runs[at].joins(pkt, p, partial) {
		if !c.runs[at].join(pkt) {
			c.open &^= 1 << at
		}
		return nil
	}
	if partial {
		if err := p.checkPartial(pkt); err != nil {
			return err
		}
	}
	switch {
	case at >= 0:
		c.open &^= 1 << at
	case p.Class != Complete:
		c.open = 0 // it may be of any flow
	}
	at = (c.first + c.count) % maxRuns
	c.count++
	if c.runs[at].start(b, p, partial) && !(c.UDPApart && p.Protocol == UDP) {
		c.open |= 1 << at
	}
	return nil
}

// find is the open run of the packet's flow, or -1.
func (c *Coalescer) find(p *Packet) int {
	for open := c.open; open != 0; open &= open - 1 {
		at := bits.TrailingZeros64(open)
		if c.runs[at].p.Flow == p.Flow {
			return at
		}
	}
	return -1
}

// Full says that there is no room for another packet before Next was called.
func (c *Coalescer) Full() bool { return c.count == maxRuns }

// Next returns the oldest run: one frame in pieces, and how many packets it holds. The pieces are valid until the following
// call of any method. It returns ok false where there is none.
func (c *Coalescer) Next() (pieces [][]byte, packets int, ok bool) {
	if c.count == 0 {
		return nil, 0, false
	}
	r := &c.runs[c.first]
	c.open &^= 1 << c.first
	c.first = (c.first + 1) % maxRuns
	if c.count--; c.count == 0 {
		c.first = 0 // the places used last are the warm ones
	}
	r.finish()
	c.last = r
	return r.pieces, len(r.pieces), true
}

// Flow is that of the run which Next has returned.
func (c *Coalescer) Flow() Flow { return c.last.p.Flow }

// start begins a run with a packet of any kind, and says whether another may follow.
func (r *run) start(b []byte, p *Packet, partial bool) bool {
	pkt := b[VirtioLen:]
	*r = run{pieces: append(r.pieces[:0], b), first: pkt, p: *p, total: len(pkt), partial: partial, trusted: partial}
	if !joinable(pkt, p) {
		return false
	}
	r.header = p.Upper + transportLen(p.Protocol, pkt[p.Upper:])
	r.gso = len(pkt) - r.header
	r.nextID = binary.BigEndian.Uint16(pkt[ip4ID:]) + 1
	return r.note(pkt)
}

// note keeps what the packet last joined says about the next, and says whether there may be one.
func (r *run) note(pkt []byte) bool {
	size := len(pkt) - r.header
	if r.p.Protocol == UDP {
		return size == r.gso && len(r.pieces) < maxDatagrams
	}
	tcp := pkt[r.p.Upper:]
	r.nextSeq = binary.BigEndian.Uint32(tcp[tcpSeq:]) + uint32(size)
	r.flags = tcp[tcpFlags] & (tcpFIN | tcpPSH)
	return size == r.gso && r.flags == 0 && len(r.pieces) < maxSegments
}

// joinable says whether a packet may be part of a run at all: plain TCP that acknowledges, or plain UDP. Nothing
// joins one without data, since it would be longer.
func joinable(pkt []byte, p *Packet) bool {
	if p.Extended || p.checkPartial(pkt) != nil || p.Version == 4 && !validHeader4(pkt) {
		return false
	}
	return p.Protocol == UDP || pkt[p.Upper+tcpFlags]&^(tcpPSH|tcpFIN|tcpECE) == tcpACK
}

// joins says whether a packet of the same flow continues the run. What its headers share with those of the first packet,
// which is joinable, makes it joinable too. Checksums are verified last, and the first packet's only once another would
// join it; UDP without one is never verified, so it stays alone.
func (r *run) joins(pkt []byte, p *Packet, partial bool) bool {
	size := len(pkt) - r.header
	if size <= 0 || size > r.gso || r.total+size > maxTotal || !r.sameIP(pkt) {
		return false
	}
	if p.Protocol == TCP && !r.sameTCP(pkt) || p.Protocol == UDP && lengthUDP(pkt[p.Upper:]) != len(pkt)-p.Upper {
		return false
	}
	if !r.trusted {
		r.trusted = r.p.verifyChecksum(r.first)
	}
	return r.trusted && (partial || p.verifyChecksum(pkt))
}

// Headers are compared eight bytes at a time, as they stand on the wire. These are the bits that may differ.
const (
	lengthAndID = 0x0000_ffff_ffff_0000   // in IPv4: version, TOS, length, identification, place
	length6     = 0x0000_0000_ffff_0000   // in IPv6: version, class, label, length, next header, hop limit
	finAndPSH   = (tcpFIN | tcpPSH) << 16 // in TCP: acknowledgement, words, flags, window
)

// sameIP compares what IP headers of one flow must say alike: traffic class or TOS (ECN included), TTL or hop limit, flow
// label, DF; no packet is a fragment. Identifications count up; under DF, where they mean nothing (RFC 6864, section 4.1),
// they may also stay the same.
func (r *run) sameIP(pkt []byte) bool {
	first := r.first
	differ := binary.BigEndian.Uint64(first) ^ binary.BigEndian.Uint64(pkt)
	if r.p.Version == 6 {
		return differ&^length6 == 0
	}
	if differ&^lengthAndID != 0 || first[ip4TTL] != pkt[ip4TTL] || !validHeader4(pkt) {
		return false
	}
	id := binary.BigEndian.Uint16(pkt[ip4ID:])
	if len(r.pieces) == 1 && r.p.DontFragment && id == r.nextID-1 {
		r.nextID, r.fixedID = id, true
	}
	return id == r.nextID
}

// sameTCP compares what TCP headers must say alike: acknowledgement, header length, reserved bits, flags other than FIN
// and PSH, window, urgent pointer, options. The sequence number follows the run's.
func (r *run) sameTCP(pkt []byte) bool {
	first, tcp := r.first[r.p.Upper:], pkt[r.p.Upper:r.header]
	differ := binary.BigEndian.Uint64(first[tcpAckSeq:]) ^ binary.BigEndian.Uint64(tcp[tcpAckSeq:])
	return differ&^finAndPSH == 0 && binary.BigEndian.Uint32(tcp[tcpSeq:]) == r.nextSeq &&
		bytes.Equal(first[tcpUrgent:len(tcp)], tcp[tcpUrgent:])
}

// join adds the payload of a packet that joins, and says whether another may follow.
func (r *run) join(pkt []byte) bool {
	r.pieces = append(r.pieces, pkt[r.header:])
	r.total += len(pkt) - r.header
	if !r.fixedID {
		r.nextID++
	}
	return r.note(pkt)
}

// finish makes the run one frame. A packet that stayed alone goes as it came, but that a partial checksum is written
// anew: the sender's field is not trusted.
func (r *run) finish() {
	var h VirtioHeader
	if len(r.pieces) > 1 {
		h = VirtioHeader{GSOType: r.gsoType(), GSOSize: uint16(r.gso), HdrLen: uint16(r.header)}
		r.patch()
	}
	if len(r.pieces) > 1 || r.partial {
		h.Flags = VirtioNeedsCsum
		h.CsumStart = uint16(r.p.Upper)
		h.CsumOffset = uint16(checksumOffset(r.p.Protocol))
		r.p.putPartial(r.first)
	}
	h.Put(r.pieces[0])
}

// patch makes the first packet's headers those of the whole run.
func (r *run) patch() {
	r.p.Total = r.total
	putTotal(r.first, r.total)
	if upper := r.first[r.p.Upper:]; r.p.Protocol == TCP {
		upper[tcpFlags] |= r.flags
	} else {
		putLengthUDP(upper, r.total-r.p.Upper)
	}
}

func (r *run) gsoType() uint8 {
	switch {
	case r.p.Protocol == UDP:
		return GSOUDP
	case r.p.Version == 4:
		return GSOTCPv4
	}
	return GSOTCPv6
}
