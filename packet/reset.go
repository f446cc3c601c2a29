package packet

import "encoding/binary"

// AppendReset appends to dst the TCP segment that makes the sender of original give up its connection, as if the other
// end had sent it. Its sequence number is the one that original acknowledges, which is what the sender expects next, so
// that it is believed at once (RFC 9293, section 3.10.7.4; RFC 5961, section 3.2). It returns false, and dst as it was,
// where original does not belong to an established connection, or is a reset itself. It allocates only where dst lacks
// the capacity.
func AppendReset(dst []byte, original []byte) ([]byte, bool) {
	p, err := Parse(original)
	if err != nil || p.Protocol != TCP || p.Class != Complete || p.Fragment || !answerable(p, original) {
		return dst, false
	}
	segment := original[p.Upper:]
	if segment[tcpFlags]&(tcpSYN|tcpRST|tcpACK) != tcpACK {
		return dst, false
	}
	start := len(dst)
	if p.Version == 4 {
		dst = appendHeader4(dst, 0, TCP, p.Dst, p.Src, headerLenTCP)
	} else {
		dst = appendHeader6(dst, TCP, p.Dst, p.Src, headerLenTCP)
	}
	upper := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, p.DstPort)
	dst = binary.BigEndian.AppendUint16(dst, p.SrcPort)
	dst = append(dst, segment[tcpAckSeq:tcpWords]...)
	dst = append(dst, 0, 0, 0, 0, headerLenTCP/4<<4, tcpRST, 0, 0, 0, 0, 0, 0)
	reset := dst[upper:]
	acc := sum(pseudoSum(dst[start:], TCP, headerLenTCP), reset)
	binary.BigEndian.PutUint16(reset[tcpChecksum:], ^fold(acc))
	return dst, true
}
