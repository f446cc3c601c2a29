package packet

// Outbound: one virtio-net frame from the TUN becomes one or more IP packets.
//
//  1. Reset parses the packet once and checks the frame's virtio-net header against it.
//  2. Next appends the next packet: the whole one, or a segment (nextWhole, nextSegment).
//  3. A segment's IP and transport headers are patched (patchIP, patchTCP, patchUDP).
//  4. What is longer than Limit allows is cut into fragments (fragment.go).

import "encoding/binary"

// Segmenter cuts virtio-net frames into packets. The zero value has none. One goroutine owns it.
type Segmenter struct {
	packet  []byte // of the frame; borrowed from Reset until Next has returned the last packet
	p       Packet // what Parse made of it
	partial bool   // the checksum of what Next returns is the pseudo-header's
	header  int    // bytes of IP and transport header before the payload, where gso is not 0
	gso     int    // payload bytes of each segment but the last; 0 where the packet goes whole
	sent    int    // payload bytes returned
	count   int    // packets returned
	done    bool   // no packet left

	// A checksum to complete that is not the packet's own, such as one inside a tunnel; 0 where there is none.
	sumStart, sumField int

	limit  int // bytes of the longest packet Next returns; 0 for none
	pieces fragments
	whole  []byte // what pieces cuts; kept for the next
}

// Reset takes a virtio-net frame: header and IP packet. It borrows frame until Next has returned the last packet. It
// fails where Parse does, and where the virtio-net header asks for a checksum or a segmentation that the packet cannot
// have; the Segmenter is then empty.
func (s *Segmenter) Reset(frame []byte) error {
	*s = Segmenter{done: true, whole: s.whole}
	h, err := ParseVirtio(frame)
	if err != nil {
		return err
	}
	p, err := Parse(frame[VirtioLen:])
	if err != nil {
		return err
	}
	plan := Segmenter{p: p, packet: frame[VirtioLen:][:p.Total], whole: s.whole}
	if h.GSOType == GSONone {
		err = plan.planWhole(h)
	} else {
		err = plan.planSegments(h)
	}
	if err != nil {
		return err
	}
	*s = plan
	return nil
}

// Packet is what Parse made of the frame's packet. All packets cut from it share its Flow.
func (s *Segmenter) Packet() Packet { return s.p }

// Bytes are those of the frame's packet, borrowed like the frame; none once Next has returned the last packet.
func (s *Segmenter) Bytes() []byte { return s.packet }

// Longest is the length of the longest packet that Next will return, before Limit.
func (s *Segmenter) Longest() int {
	if s.gso == 0 {
		return s.p.Total
	}
	return min(s.p.Total, s.header+s.gso)
}

// Limit has Next cut what is longer than limit bytes into fragments, which only IPv4 packets without DontFragment may
// be. It holds until the next Reset. limit is at least 68 (RFC 791, section 3.2), so that each fragment has payload.
func (s *Segmenter) Limit(limit int) { s.limit = limit }

// planWhole accepts a frame that is one packet. The checksum asked for is normally the packet's own and stays partial.
// Another one (of a packet inside a packet) is completed by Next.
func (s *Segmenter) planWhole(h VirtioHeader) error {
	if h.Flags&VirtioNeedsCsum == 0 {
		return nil
	}
	if s.ownChecksum(h) {
		s.partial = true
		return CheckPartial(s.p, s.packet)
	}
	s.sumStart = int(h.CsumStart)
	s.sumField = s.sumStart + int(h.CsumOffset)
	if s.sumStart < s.innerStart() || s.sumField+2 > s.p.Total {
		return ErrVirtio
	}
	return nil
}

// innerStart is where a packet inside this one may begin: behind the ports, so that completing its checksum cannot turn
// the packet into one of another flow than was parsed. In ICMP there is none: what an error quotes was summed before.
func (s *Segmenter) innerStart() int {
	switch p := s.p.Protocol; {
	case p.HasPorts():
		return s.p.Upper + headerLenUDP
	case p == ICMP || p == ICMPv6:
		return s.p.Total
	}
	return s.p.Upper
}

// ownChecksum says whether the checksum that the header points to is that of the packet's own TCP or UDP header.
func (s *Segmenter) ownChecksum(h VirtioHeader) bool {
	return s.p.Protocol.HasPorts() && int(h.CsumStart) == s.p.Upper &&
		int(h.CsumOffset) == checksumOffset(s.p.Protocol)
}

// planSegments accepts a frame that is to be cut.
func (s *Segmenter) planSegments(h VirtioHeader) error {
	if h.GSOSize == 0 || !s.gsoFits(h.GSOType) || h.Flags&VirtioNeedsCsum != 0 && !s.ownChecksum(h) {
		return ErrVirtio
	}
	if err := CheckPartial(s.p, s.packet); err != nil {
		return err
	}
	s.partial = true
	s.gso = int(h.GSOSize)
	s.header = s.p.Upper + transportLen(s.p.Protocol, s.packet[s.p.Upper:])
	return nil
}

// gsoFits says whether the packet is of the kind that the GSO type cuts.
func (s *Segmenter) gsoFits(gso uint8) bool {
	switch gso {
	case GSOTCPv4, GSOTCPv4 | GSOECN:
		return s.p.Version == 4 && s.p.Protocol == TCP
	case GSOTCPv6, GSOTCPv6 | GSOECN:
		return s.p.Version == 6 && s.p.Protocol == TCP
	case GSOUDP:
		return s.p.Protocol == UDP
	}
	return false
}

// Next appends the next packet to dst, which must not overlap the frame, and returns the longer slice. partial says
// that the packet's checksum covers the pseudo-header only, so it is to be sealed with FlagPartial. It returns ok
// false, and dst as it was, when no packet is left. It allocates only where dst lacks the capacity.
func (s *Segmenter) Next(dst []byte) (out []byte, partial, ok bool) {
	if s.pieces.left() {
		return s.pieces.next(dst), false, true
	}
	if s.done || s.packet == nil {
		return dst, false, false
	}
	if s.gso == 0 {
		out = s.nextWhole(dst)
	} else {
		out = s.nextSegment(dst)
	}
	if s.limit == 0 || len(out)-len(dst) <= s.limit {
		return out, s.partial, true
	}
	s.cut(out[len(dst):])
	return s.pieces.next(out[:len(dst)]), false, true
}

// cut makes pieces of a packet that is too long. A fragment has no partial checksum, so it is completed first.
func (s *Segmenter) cut(packet []byte) {
	s.whole = append(s.whole[:0], packet...)
	p := s.p
	p.Total = len(packet)
	if s.partial {
		_ = CompleteChecksum(p, s.whole) // planned so: CheckPartial holds
	}
	s.pieces = fragments{packet: s.whole, p: p, limit: s.limit}
}

func (s *Segmenter) nextWhole(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, s.packet...)
	whole := dst[start:]
	switch {
	case s.partial:
		putPartial(s.p, whole)
	case s.sumField > 0:
		// The field holds the sum of the inner pseudo-header. Never zero, which is right in every protocol: in those
		// other than UDP the two forms of zero are equal.
		binary.BigEndian.PutUint16(whole[s.sumField:], complement(UDP, sum(0, whole[s.sumStart:])))
	}
	s.finish()
	return dst
}

func (s *Segmenter) nextSegment(dst []byte) []byte {
	start := len(dst)
	payload := s.packet[s.header+s.sent:]
	last := len(payload) <= s.gso
	payload = payload[:min(len(payload), s.gso)]
	dst = append(dst, s.packet[:s.header]...)
	dst = append(dst, payload...)

	segment := dst[start:]
	p := s.p
	p.Total = len(segment)
	s.patchIP(segment)
	if p.Protocol == TCP {
		s.patchTCP(segment[p.Upper:], last)
	} else {
		patchUDP(segment[p.Upper:])
	}
	putPartial(p, segment)

	s.sent += len(payload)
	s.count++
	if last {
		s.finish()
	}
	return dst
}

// patchIP sets the length and, in IPv4, an identification that counts up from the frame's.
func (s *Segmenter) patchIP(segment []byte) {
	if id := segment[ip4ID:]; s.p.Version == 4 {
		binary.BigEndian.PutUint16(id, binary.BigEndian.Uint16(id)+uint16(s.count))
	}
	putTotal(segment)
}

// patchTCP moves the sequence number on. FIN and PSH belong to the last segment, CWR to the first.
func (s *Segmenter) patchTCP(tcp []byte, last bool) {
	binary.BigEndian.PutUint32(tcp[tcpSeq:], binary.BigEndian.Uint32(tcp[tcpSeq:])+uint32(s.sent))
	if !last {
		tcp[tcpFlags] &^= tcpFIN | tcpPSH
	}
	if s.count > 0 {
		tcp[tcpFlags] &^= tcpCWR
	}
}

// patchUDP makes the length field that of the segment.
func patchUDP(udp []byte) { binary.BigEndian.PutUint16(udp[udpLength:], uint16(len(udp))) }

// finish lets go of the frame.
func (s *Segmenter) finish() { s.done, s.packet = true, nil }
