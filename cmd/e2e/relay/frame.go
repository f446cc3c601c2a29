package relay

import (
	"encoding/binary"

	"ssmnet/packet"
)

// A frame is what a packet socket with PACKET_VNET_HDR reads and writes:
//
//	virtio-net header(10) | destination(6) source(6) type(2) | IP packet, or whatever else
//
// Offsets in its virtio-net header count from the Ethernet header; those that packet.Segmenter reads, from the packet.
const (
	etherLen  = 14
	headerLen = packet.VirtioLen + etherLen
	maxFrame  = headerLen + 65535

	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd

	udpHeaderLen = 8
	tcpHeaderLen = 20
)

// cutter takes frames apart. One goroutine owns it.
type cutter struct {
	segments packet.Segmenter
	ether    [etherLen]byte
}

// reset takes a frame with whole headers, and says whether it has packets to cut. The frame is borrowed, and is
// overwritten, until next has returned the last of them. Where there are none it stays as it is.
func (c *cutter) reset(frame []byte) bool {
	h, err := packet.ParseVirtio(frame)
	if err != nil || !carriesIP(frame) {
		return false
	}
	if h.Flags&packet.VirtioNeedsCsum != 0 {
		if h.CsumStart < etherLen {
			return false
		}
		h.CsumStart -= etherLen
	}
	copy(c.ether[:], frame[packet.VirtioLen:])
	moved := frame[etherLen:] // where the header stands right before the packet, over the Ethernet header
	h.Put(moved)
	if c.segments.Reset(moved) != nil {
		copy(frame[packet.VirtioLen:], c.ether[:])
		return false
	}
	return true
}

func carriesIP(frame []byte) bool {
	t := binary.BigEndian.Uint16(frame[headerLen-2:])
	return t == typeIPv4 || t == typeIPv6
}

// concerns says whether the frame is of the class.
func (c Class) concerns(frame []byte) bool {
	if c.Protocol == packet.AnyProtocol {
		return true
	}
	p, err := packet.Parse(frame[headerLen:])
	return err == nil && carriesIP(frame) && c.holds(p.Flow)
}

// next appends the next packet of the frame to dst, which is empty, as a frame of its own.
func (c *cutter) next(dst []byte) (frame []byte, ok bool) {
	var none [packet.VirtioLen]byte
	pkt, partial, ok := c.segments.Next()
	frame = append(append(append(dst, none[:]...), c.ether[:]...), pkt...)
	if ok && partial {
		c.packet(frame).header().Put(frame)
	}
	return frame, ok
}

// cut is a packet of a frame and what Parse made of it.
type cut struct {
	packet.Packet
	b []byte
}

// packet is the packet in a frame that next made.
func (c *cutter) packet(frame []byte) cut {
	p := cut{c.segments.Packet(), frame[headerLen:]}
	p.Total = len(p.b)
	return p
}

// header asks the kernel to complete the checksum.
func (p cut) header() packet.VirtioHeader {
	offset := uint16(6) // RFC 768
	if p.Protocol == packet.TCP {
		offset = 16 // RFC 9293, section 3.1
	}
	return packet.VirtioHeader{
		Flags: packet.VirtioNeedsCsum, CsumStart: uint16(etherLen + p.Upper), CsumOffset: offset,
	}
}

// corrupt changes one byte of the payload in a frame that next made, and says whether there was one. Without mend the
// checksum is that of the packet before: one changed byte always breaks it (RFC 1071: sums are modulo 65,535).
func (c *cutter) corrupt(frame []byte, noise uint64, mend bool) bool {
	p := c.packet(frame)
	payload := p.b[p.payload():]
	if len(payload) == 0 {
		return false
	}
	if frame[0]&packet.VirtioNeedsCsum != 0 { // what the kernel has left to do it would do after us
		clear(frame[:packet.VirtioLen])
		_ = packet.CompleteChecksum(p.Packet, p.b) // cannot fail: the Segmenter found that it may be partial
	}
	payload[noise>>8%uint64(len(payload))] ^= byte(noise%255) + 1
	if mend {
		_ = packet.CompleteChecksum(p.Packet, p.b) // of a fragment, or another protocol, it stays wrong
	}
	return true
}

// payload is where it begins: behind the TCP or UDP header, else behind the IP header.
func (p cut) payload() int {
	start := p.Upper
	switch {
	case p.FragmentOffset > 0 || p.Class != packet.Complete:
	case p.Protocol == packet.UDP:
		start += udpHeaderLen
	case p.Protocol == packet.TCP:
		start += max(tcpHeaderLen, int(p.b[p.Upper+12]>>4)*4)
	}
	return min(start, len(p.b))
}
