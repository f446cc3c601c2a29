package packet

import "net/netip"

// Datagrams are frames that the underlay takes or brings in one piece, one behind the other (UDP_SEGMENT, UDP_GRO): each
// is Segment bytes long, but the last, which may be shorter.
type Datagrams struct {
	Pieces  [][]byte // their bytes, in order; what was received is one piece
	Segment int
	Addr    netip.AddrPort // where they go, or come from
}
