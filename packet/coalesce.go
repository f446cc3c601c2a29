package packet

// Inbound: consecutive packets of one flow become one virtio-net frame, to be written to the TUN at once.
//
//  1. Add refuses a partial checksum where there can be none.
//  2. joins asks whether the packet continues the run: the rules of the kernel's GRO, so that the kernel cutting the
//     frame again would give the packets back.
//  3. Where it does, its payload is appended; where not, the run is finished into a frame and the packet starts
//     another.
//  4. finish writes the headers of the whole run, and the virtio-net header before them.
//
// Packets keep their order: there is one run at a time.

import (
	"bytes"
	"encoding/binary"
)

// maxDatagrams is how many UDP datagrams a kernel takes in one frame; newer ones take 128.
const maxDatagrams = 64

// Coalescer joins packets into virtio-net frames. The zero value is ready. One goroutine owns it; it holds two buffers
// of 64 KiB from its first use on.
type Coalescer struct {
	run   run
	ready []byte // the buffer of the frame last returned
}

// run is the packets joined so far.
type run struct {
	buf     []byte // virtio-net header and packet; its capacity is MaxVirtio
	p       Packet // what Parse made of the first packet
	header  int    // bytes of IP and transport header
	gso     int    // payload bytes of each packet but the last
	count   int    // packets; 0 where there is no run
	nextSeq uint32 // of the TCP packet that continues it
	id      uint16 // IPv4 identification of the first packet
	fixedID bool   // all have the same identification; known once count is 2
	flags   uint8  // FIN and PSH of the last packet
	partial bool   // the first packet's checksum is partial
	trusted bool   // the first packet's checksum is partial or was verified
	closed  bool   // nothing may follow
}

// Add takes the next packet, of which p is what Parse made; partial is FlagPartial of its frame. pkt is copied. Where
// it does not continue the run before it, that run is returned as a frame, which is valid until the next Add or Flush.
// The error is CheckPartial's: the packet is then refused and the run as before.
func (c *Coalescer) Add(pkt []byte, p Packet, partial bool) (frame []byte, err error) {
	pkt = pkt[:p.Total]
	if partial {
		if err := CheckPartial(p, pkt); err != nil {
			return nil, err
		}
	}
	if c.run.count > 0 && c.run.joins(pkt, p, partial) {
		c.run.join(pkt)
		return nil, nil
	}
	frame = c.Flush()
	c.run.start(pkt, p, partial)
	return frame, nil
}

// Flush ends the run and returns its frame, which is valid until the next Add or Flush; nil where there is no run.
func (c *Coalescer) Flush() []byte {
	if c.run.buf == nil {
		c.run.buf = make([]byte, 0, MaxVirtio)
		c.ready = make([]byte, 0, MaxVirtio)
	}
	if c.run.count == 0 {
		return nil
	}
	c.run.finish()
	frame := c.run.buf
	c.run, c.ready = run{buf: c.ready[:0]}, frame
	return frame
}

// start begins a run with a packet of any kind. Only one that could continue a run may be continued.
func (r *run) start(pkt []byte, p Packet, partial bool) {
	*r = run{buf: append(r.buf[:VirtioLen], pkt...), p: p, count: 1, partial: partial, trusted: partial}
	if !joinable(pkt, p) {
		r.closed = true
		return
	}
	upper := pkt[p.Upper:]
	r.header = p.Upper + transportLen(p.Protocol, upper)
	r.gso = len(pkt) - r.header
	r.id = binary.BigEndian.Uint16(pkt[ip4ID:])
	r.note(upper, r.gso)
}

// note keeps what the packet last joined says about the next.
func (r *run) note(upper []byte, size int) {
	r.closed = size < r.gso
	if r.p.Protocol == TCP {
		r.nextSeq = binary.BigEndian.Uint32(upper[tcpSeq:]) + uint32(size)
		r.flags = upper[tcpFlags] & (tcpFIN | tcpPSH)
		r.closed = r.closed || r.flags != 0
	}
}

// joinable says whether a packet may be part of a run at all: plain TCP that acknowledges and carries data, or plain
// UDP with data and a checksum.
func joinable(pkt []byte, p Packet) bool {
	if p.Extended || CheckPartial(p, pkt) != nil {
		return false
	}
	if p.Version == 4 && fold(sum(0, pkt[:headerLen4])) != 0xffff {
		return false
	}
	upper := pkt[p.Upper:]
	if len(upper) == transportLen(p.Protocol, upper) {
		return false
	}
	if p.Protocol == UDP {
		return upper[udpChecksum]|upper[udpChecksum+1] != 0
	}
	return upper[tcpFlags]&^(tcpPSH|tcpFIN|tcpECE) == tcpACK
}

// joins says whether the packet continues the run. A run that is not continued is finished. Checksums are verified
// last, and the first packet's only once another would join it.
func (r *run) joins(pkt []byte, p Packet, partial bool) bool {
	if r.closed || p.Flow != r.p.Flow || !joinable(pkt, p) || !r.fits(pkt) || !r.sameIP(pkt) {
		return false
	}
	if p.Protocol == TCP && !r.sameTCP(pkt) {
		return false
	}
	r.trusted = r.trusted || VerifyChecksum(r.p, r.buf[VirtioLen:])
	return r.trusted && (partial || VerifyChecksum(p, pkt))
}

// fits compares sizes: no payload is longer than the first, and the whole is still an IP packet.
func (r *run) fits(pkt []byte) bool {
	size := len(pkt) - r.p.Upper - transportLen(r.p.Protocol, pkt[r.p.Upper:])
	if r.p.Protocol == UDP && r.count == maxDatagrams {
		return false
	}
	return size <= r.gso && len(r.buf)-VirtioLen+size <= maxTotal
}

// sameIP compares what one IP header must say for all: traffic class or TOS (ECN included), TTL or hop limit, flow
// label, DF. Identifications count up from the first; under DF, where they mean nothing (RFC 6864, section 4.1), they
// may also stay the same.
func (r *run) sameIP(pkt []byte) bool {
	first := r.buf[VirtioLen:]
	if r.p.Version == 6 {
		return bytes.Equal(first[:4], pkt[:4]) && first[ip6HopLimit] == pkt[ip6HopLimit]
	}
	if first[ip4TOS] != pkt[ip4TOS] || first[ip4TTL] != pkt[ip4TTL] ||
		!bytes.Equal(first[ip4Place:ip4TTL], pkt[ip4Place:ip4TTL]) {
		return false
	}
	id := binary.BigEndian.Uint16(pkt[ip4ID:])
	fixed := r.p.DontFragment && id == r.id
	counted := id == r.id+uint16(r.count)
	if r.count == 1 {
		r.fixedID = fixed
		return fixed || counted
	}
	return r.fixedID && fixed || !r.fixedID && counted
}

// sameTCP compares what one TCP header must say for all: acknowledgement, header length, reserved bits, window, flags
// other than FIN and PSH, urgent pointer, options. The sequence number follows the run's.
func (r *run) sameTCP(pkt []byte) bool {
	first := r.buf[VirtioLen:][r.p.Upper:r.header]
	tcp := pkt[r.p.Upper:]
	if transportLen(TCP, tcp) != len(first) || binary.BigEndian.Uint32(tcp[tcpSeq:]) != r.nextSeq {
		return false
	}
	if (first[tcpFlags]^tcp[tcpFlags])&^(tcpFIN|tcpPSH) != 0 || first[tcpWords] != tcp[tcpWords] {
		return false
	}
	return bytes.Equal(first[tcpAckSeq:tcpWords], tcp[tcpAckSeq:tcpWords]) &&
		bytes.Equal(first[tcpWindow:tcpChecksum], tcp[tcpWindow:tcpChecksum]) &&
		bytes.Equal(first[tcpUrgent:], tcp[tcpUrgent:len(first)])
}

// join appends the payload of a packet that joins.
func (r *run) join(pkt []byte) {
	r.buf = append(r.buf, pkt[r.header:]...)
	r.count++
	r.note(pkt[r.p.Upper:], len(pkt)-r.header)
}

// finish makes the run one frame. A packet that stayed alone goes as it came, but that a partial checksum is written
// anew: the sender's field is not trusted.
func (r *run) finish() {
	var h VirtioHeader
	pkt := r.buf[VirtioLen:]
	if r.count > 1 {
		h = VirtioHeader{GSOType: r.gsoType(), GSOSize: uint16(r.gso), HdrLen: uint16(r.header)}
		r.patch(pkt)
	}
	if r.count > 1 || r.partial {
		h.Flags = VirtioNeedsCsum
		h.CsumStart = uint16(r.p.Upper)
		h.CsumOffset = uint16(checksumOffset(r.p.Protocol))
		putPartial(r.p, pkt)
	}
	h.Put(r.buf)
}

// patch makes the first packet's headers those of the whole run.
func (r *run) patch(pkt []byte) {
	r.p.Total = len(pkt)
	putTotal(pkt)
	upper := pkt[r.p.Upper:]
	if r.p.Protocol == TCP {
		upper[tcpFlags] |= r.flags
	} else {
		patchUDP(upper)
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
