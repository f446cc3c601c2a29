package packet

// Fragmentation inside the tunnel (RFC 791, section 3.2): IPv4 packets that do not forbid it, where the way to their peer
// carries less than the interface does.

import "encoding/binary"

// fragments cuts one IPv4 packet, which may itself be a fragment. The zero value has nothing left to cut.
type fragments struct {
	packet []byte // borrowed until next has returned the last
	p      Packet // what Parse made of it
	limit  int    // bytes of each fragment
	sent   int    // payload bytes returned
}

// left says whether there is another fragment.
func (f *fragments) left() bool { return f.packet != nil }

// next appends the next fragment to dst. Payloads are multiples of 8 bytes but the last's.
func (f *fragments) next(dst []byte) []byte {
	start := len(dst)
	dst = f.appendHeader(dst)
	header := len(dst) - start
	payload := f.packet[f.p.Upper+f.sent : f.p.Total]
	last := header+len(payload) <= f.limit
	if !last {
		payload = payload[:(f.limit-header)&^7]
	}
	dst = append(dst, payload...)
	f.patch(dst[start:], last)
	if f.sent += len(payload); last {
		f.packet = nil
	}
	return dst
}

// appendHeader appends the header: of a fragment but the first, with those options alone that are to be copied.
func (f *fragments) appendHeader(dst []byte) []byte {
	if f.sent == 0 {
		return append(dst, f.packet[:f.p.Upper]...)
	}
	start := len(dst)
	dst = append(dst, f.packet[:headerLen4]...)
	for options := f.packet[headerLen4:f.p.Upper]; len(options) > 0 && options[0] != optionEnd; {
		length := 1
		if options[0] != optionNop {
			length = int(options[1])
		}
		if options[0]&optionCopied != 0 {
			dst = append(dst, options[:length]...)
		}
		options = options[length:]
	}
	for (len(dst)-start)%4 != 0 {
		dst = append(dst, 0)
	}
	dst[start] = 4<<4 | byte((len(dst)-start)/4)
	return dst
}

// patch sets place, length and checksum.
func (f *fragments) patch(fragment []byte, last bool) {
	place := uint16((f.p.FragmentOffset + f.sent) / 8)
	if !last || f.p.MoreFragments {
		place |= moreFragments
	}
	binary.BigEndian.PutUint16(fragment[ip4Place:], place)
	putTotal(fragment, len(fragment))
}
