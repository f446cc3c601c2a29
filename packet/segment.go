package packet

// Outbound: one virtio-net frame from the TUN becomes one or more IP packets, in place. Only headers are written, each in
// front of its payload, over the tail of the payload before it, which has been sealed by then:
//
//	frame         | virtio | header | payload 0 | payload 1 | payload 2 |
//	first Next             [ header   payload 0 ]
//	second Next                        [ header   payload 1 ]
//	third Next                                     [ header   payload 2 ]
//
//  1. Reset parses the packet once and checks the frame's virtio-net header against it (planWhole, planSegments).
//  2. planHeader makes the header that the segments share.
//  3. Next returns the next packet: the whole one, or a segment (nextWhole, nextSegment).
//  4. What is longer than Limit allows is cut into fragments (fragment.go).

import "encoding/binary"

// Segmenter cuts virtio-net frames into packets. The zero value has none. One goroutine owns it.
type Segmenter struct {
	packet  []byte // of the frame; borrowed, and changed, until the next Reset
	p       Packet // what Parse made of it
	partial bool   // the checksum of what Next returns is the pseudo-header's
	left    int    // packets that Next will return, before Limit

	gso    int    // payload bytes of each segment but the last
	sent   int    // payload bytes returned
	header []byte // of the segments but the last; empty where the packet goes whole. The buffer is kept
	seq    uint32 // of the next segment, in TCP
	id     uint16 // of the next segment, in IPv4
	flags  uint8  // FIN and PSH of the packet, in TCP: the last segment's

	// A checksum to complete that is not the packet's own, such as one inside a tunnel; 0 where there is none.
	sumStart, sumField int

	limit  int // bytes of the longest packet Next returns; 0 for none
	pieces fragments
	piece  []byte // the fragment last returned; the buffer is kept
}

// Reset takes a virtio-net frame: header and IP packet. The frame is borrowed until the next Reset, and Next changes it.
// It fails where Parse does, and where the virtio-net header asks for a checksum or a segmentation that the packet cannot
// have; the Segmenter is then empty.
func (s *Segmenter) Reset(frame []byte) error {
	s.packet, s.p, s.partial, s.left = nil, Packet{}, false, 0
	s.gso, s.sent, s.header = 0, 0, s.header[:0]
	s.sumStart, s.sumField, s.limit, s.pieces.packet = 0, 0, 0, nil
	h, err := ParseVirtio(frame)
	if err != nil {
		return err
	}
	if err := s.p.parse(frame[VirtioLen:]); err != nil {
		return err
	}
	s.packet = frame[VirtioLen:][:s.p.Total]
	count := 1
	if h.GSOType == GSONone {
		err = s.planWhole(h)
	} else {
		count, err = s.planSegments(h)
	}
	if err == nil {
		s.left = count
	}
	return err
}

// Packet is what Parse made of the frame's packet. All packets cut from it share its Flow.
func (s *Segmenter) Packet() Packet { return s.p }

// Bytes are those of the frame's packet, borrowed like the frame. Next changes them.
func (s *Segmenter) Bytes() []byte { return s.packet }

// Count is at most how many packets Next will return.
func (s *Segmenter) Count() int {
	if s.limit == 0 {
		return s.left
	}
	payload := (s.limit - s.p.Upper) &^ 7 // of a fragment
	return s.left * (1 + s.Longest()/payload)
}

// Longest is the length of the longest packet that Next will return, before Limit.
func (s *Segmenter) Longest() int {
	if len(s.header) == 0 {
		return s.p.Total
	}
	return len(s.header) + s.gso
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
		return s.p.checkPartial(s.packet)
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

// planSegments accepts a frame that is to be cut and says into how many packets.
func (s *Segmenter) planSegments(h VirtioHeader) (count int, err error) {
	if h.GSOSize == 0 || !s.gsoFits(h.GSOType) || h.Flags&VirtioNeedsCsum != 0 && !s.ownChecksum(h) {
		return 0, ErrVirtio
	}
	if err := s.p.checkPartial(s.packet); err != nil {
		return 0, err
	}
	s.partial = true
	header, gso := s.p.Upper+transportLen(s.p.Protocol, s.packet[s.p.Upper:]), int(h.GSOSize)
	if s.p.Total <= header+gso {
		return 1, nil
	}
	s.gso = gso
	s.planHeader(header)
	return (s.p.Total - header + gso - 1) / gso, nil
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

// planHeader makes the header of the segments but the last, of the first length bytes of the packet. What differs from one
// to the next (number) is left out of its sums.
func (s *Segmenter) planHeader(length int) {
	s.header = append(s.header, s.packet[:length]...)
	if s.p.Protocol == TCP {
		tcp := s.header[s.p.Upper:]
		s.seq = binary.BigEndian.Uint32(tcp[tcpSeq:])
		s.flags = tcp[tcpFlags] & (tcpFIN | tcpPSH)
		tcp[tcpFlags] &^= s.flags
	}
	if s.p.Version == 4 {
		s.id = binary.BigEndian.Uint16(s.header[ip4ID:])
		s.header[ip4ID], s.header[ip4ID+1] = 0, 0
	}
	s.putLengths(s.header, length+s.gso)
}

// Next returns the next packet, which lies in the frame and is valid until the following Next or Reset. partial says that
// its checksum covers the pseudo-header only, so it is to be sealed with FlagPartial. It returns ok false when no packet is
// left. It allocates nothing once the Segmenter's own buffers have grown to the longest header and fragment.
func (s *Segmenter) Next() (pkt []byte, partial, ok bool) {
	if s.pieces.left() {
		return s.nextPiece(), false, true
	}
	if s.left == 0 {
		return nil, false, false
	}
	s.left--
	if len(s.header) == 0 {
		pkt = s.nextWhole()
	} else {
		pkt = s.nextSegment()
	}
	if s.limit == 0 || len(pkt) <= s.limit {
		return pkt, s.partial, true
	}
	s.cut(pkt)
	return s.nextPiece(), false, true
}

// cut makes pieces of a packet that is too long. A fragment has no partial checksum, so it is completed first.
func (s *Segmenter) cut(pkt []byte) {
	p := s.p
	p.Total = len(pkt)
	if s.partial {
		_ = CompleteChecksum(p, pkt) // planned so: CheckPartial holds
	}
	s.pieces = fragments{packet: pkt, p: p, limit: s.limit}
}

// nextPiece returns the next fragment, beside the frame: its packet is still needed whole.
func (s *Segmenter) nextPiece() []byte {
	s.piece = s.pieces.next(s.piece[:0])
	return s.piece
}

func (s *Segmenter) nextWhole() []byte {
	switch {
	case s.partial:
		s.p.putPartial(s.packet)
	case s.sumField > 0:
		// The field holds the sum of the inner pseudo-header. Never zero, which is right in every protocol: in those
		// other than UDP the two forms of zero are equal.
		binary.BigEndian.PutUint16(s.packet[s.sumField:], complement(UDP, sum(0, s.packet[s.sumStart:])))
	}
	return s.packet
}

// nextSegment puts the header in front of the next payload. The last segment has what FIN and PSH there are, and may be
// shorter.
func (s *Segmenter) nextSegment() []byte {
	segment := s.packet[s.sent:]
	copy(segment, s.header)
	s.sent += s.gso
	if s.left > 0 {
		segment = segment[:len(s.header)+s.gso]
	} else {
		if s.p.Protocol == TCP {
			segment[s.p.Upper+tcpFlags] |= s.flags
		}
		s.putLengths(segment, len(segment))
	}
	s.number(segment)
	return segment
}

// number gives a segment what it has alone: in TCP its sequence number, and in the first one CWR; in IPv4 its
// identification.
func (s *Segmenter) number(segment []byte) {
	if s.p.Protocol == TCP {
		binary.BigEndian.PutUint32(segment[s.p.Upper+tcpSeq:], s.seq)
		s.seq += uint32(s.gso)
		s.header[s.p.Upper+tcpFlags] &^= tcpCWR
	}
	if s.p.Version == 4 {
		rest := ^binary.BigEndian.Uint16(segment[ip4Checksum:])
		binary.BigEndian.PutUint16(segment[ip4ID:], s.id)
		binary.BigEndian.PutUint16(segment[ip4Checksum:], ^fold(uint64(rest)+uint64(s.id)))
		s.id++
	}
}

// putLengths makes header that of a packet of total bytes: lengths, and the sums that contain them.
func (s *Segmenter) putLengths(header []byte, total int) {
	p := s.p
	p.Total = total
	putTotal(header, total)
	if p.Protocol == UDP {
		putLengthUDP(header[p.Upper:], total-p.Upper)
	}
	p.putPartial(header)
}
