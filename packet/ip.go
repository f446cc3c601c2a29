package packet

// Classification: what an IP packet says about itself, and which flow it belongs to.
//
//  1. Parse tells the IP version and checks the packet's length against what is there.
//  2. parse4 reads the IPv4 header, its options and its place in a fragmented datagram.
//  3. parse6 reads the IPv6 header; walk6 follows the chain of extension headers to the upper-layer protocol.
//  4. classify says how much of the flow is known and reads the ports.

import (
	"encoding/binary"
	"net/netip"
)

// Packet is what Parse learns about an IP packet. It holds no reference to the packet's bytes.
type Packet struct {
	Flow
	Version        int  // 4 or 6
	Total          int  // bytes of the whole packet, as its header says
	Upper          int  // offset of the transport header; of the fragment's data where FragmentOffset is not 0
	FragmentOffset int  // bytes
	Fragment       bool // a part of a fragmented datagram, or an IPv6 atomic fragment (RFC 6946)
	MoreFragments  bool
	DontFragment   bool // always so in IPv6
	Extended       bool // IPv4 options or IPv6 extension headers stand before Upper
}

// maxExtensions bounds the IPv6 extension headers of a packet: nothing that exists has more, and a limit is allowed
// (RFC 8504, section 5.3).
const maxExtensions = 8

// IPv6 next headers that Parse follows (RFC 8200, section 4). All others, AH and ESP among them, are upper-layer
// protocols to us: only a selector that names their number, or any protocol, matches.
const (
	hopByHop           Protocol = 0
	routing            Protocol = 43
	fragmentation      Protocol = 44
	destinationOptions Protocol = 60
)

// isExtension says whether the next header is one that Parse follows to find the upper-layer protocol.
func isExtension(p Protocol) bool {
	return p == hopByHop || p == routing || p == fragmentation || p == destinationOptions
}

// Parse reads the IP packet at the start of b. Bytes of b behind Packet.Total are no part of it. The IPv4 header
// checksum is not checked here. A packet that is refused is dropped: nothing about it can be decided.
func Parse(b []byte) (p Packet, err error) {
	if err = p.parse(b); err != nil {
		return Packet{}, err
	}
	return p, nil
}

// parse fills in p, which is zero: a Packet is long enough that copies of it would cost as much as all else. After an error
// it holds nothing of use.
func (p *Packet) parse(b []byte) error {
	if len(b) == 0 {
		return errTruncated
	}
	switch b[0] >> 4 {
	case 4:
		return p.parse4(b)
	case 6:
		return p.parse6(b)
	}
	return errVersion
}

// parse4 reads an IPv4 packet (RFC 791, section 3.1).
func (p *Packet) parse4(b []byte) error {
	if len(b) < headerLen4 {
		return errTruncated
	}
	p.Version, p.Total, p.Upper = 4, int(binary.BigEndian.Uint16(b[ip4Total:])), int(b[0]&0xf)*4
	if p.Upper < headerLen4 || p.Total < p.Upper {
		return errMalformed
	}
	if p.Total > len(b) {
		return errTruncated
	}
	p.Extended = p.Upper > headerLen4
	if err := checkOptions4(b[headerLen4:p.Upper]); err != nil {
		return err
	}
	place := binary.BigEndian.Uint16(b[ip4Place:])
	p.DontFragment = place&dontFragment != 0
	p.MoreFragments = place&moreFragments != 0
	p.FragmentOffset = int(place&fragmentOffset) * 8
	p.Fragment = p.MoreFragments || p.FragmentOffset > 0
	if p.FragmentOffset+p.Total-p.Upper > maxTotal {
		return errMalformed
	}
	p.Src = netip.AddrFrom4([4]byte(b[ip4Src:ip4Dst]))
	p.Dst = netip.AddrFrom4([4]byte(b[ip4Dst:headerLen4]))
	p.classify(b, Protocol(b[ip4Protocol]))
	return nil
}

// checkOptions4 walks the options (RFC 791, section 3.1) and refuses source routes, which would carry the packet past
// the destination that selectors decide on.
func checkOptions4(options []byte) error {
	for len(options) > 0 {
		switch options[0] {
		case optionEnd:
			return nil
		case optionNop:
			options = options[1:]
			continue
		case optionLooseRoute, optionStrictRoute:
			return errSourceRoute
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return errMalformed
		}
		options = options[options[1]:]
	}
	return nil
}

// parse6 reads an IPv6 packet (RFC 8200, section 3). Jumbograms (RFC 2675) are malformed here: no link of ours is that
// wide.
func (p *Packet) parse6(b []byte) error {
	if len(b) < headerLen6 {
		return errTruncated
	}
	p.Version, p.Total, p.Upper = 6, headerLen6+int(binary.BigEndian.Uint16(b[ip6Length:])), headerLen6
	p.DontFragment = true
	if p.Total > len(b) {
		return errTruncated
	}
	p.Src = netip.AddrFrom16([16]byte(b[ip6Src:ip6Dst]))
	p.Dst = netip.AddrFrom16([16]byte(b[ip6Dst:headerLen6]))
	protocol, err := p.walk6(b[:p.Total], Protocol(b[ip6Next]))
	if err != nil {
		return err
	}
	p.classify(b, protocol)
	return nil
}

// walk6 follows the extension headers from p.Upper on and moves it behind them. It returns the upper-layer protocol, or
// the extension header with which a later fragment's data begins: what follows that one cannot be known.
func (p *Packet) walk6(b []byte, next Protocol) (Protocol, error) {
	for count := 0; isExtension(next); count++ {
		header := b[p.Upper:]
		if count == maxExtensions || len(header) < 8 || next == hopByHop && p.Extended {
			return 0, errMalformed
		}
		p.Extended = true
		length := 8 + 8*int(header[1])
		switch {
		case next == fragmentation && p.Fragment:
			return 0, errMalformed
		case next == fragmentation:
			length = 8
			p.fragment6(header)
		case next == routing && header[3] != 0: // segments left
			return 0, errSourceRoute
		}
		if length > len(header) {
			return 0, errMalformed
		}
		next = Protocol(header[0])
		p.Upper += length
		if p.FragmentOffset > 0 {
			if p.FragmentOffset+len(header)-length > maxTotal {
				return 0, errMalformed
			}
			return next, nil
		}
	}
	return next, nil
}

// fragment6 reads a fragment header (RFC 8200, section 4.5).
func (p *Packet) fragment6(header []byte) {
	place := binary.BigEndian.Uint16(header[2:])
	p.Fragment = true
	p.MoreFragments = place&1 != 0
	p.FragmentOffset = int(place &^ 7)
}

// classify sets the protocol, the class and, where they are known, the ports. IPv4 protocol 0 is IPv6's hop-by-hop
// header and means nothing there, so it stays unclassified too.
func (p *Packet) classify(b []byte, protocol Protocol) {
	if protocol == AnyProtocol || p.Version == 6 && isExtension(protocol) {
		p.Class = Unclassified
		return
	}
	p.Protocol = protocol
	p.Class = ProtocolOnly
	if p.FragmentOffset > 0 {
		return
	}
	if !protocol.HasPorts() {
		p.Class = Complete
		return
	}
	need := headerLenUDP
	if protocol == TCP {
		need = headerLenTCP
	}
	if p.Total-p.Upper < need {
		return
	}
	p.Class = Complete
	p.SrcPort, p.DstPort = readPorts(b[p.Upper:])
}

// Forwardable says whether addr is an address of one host elsewhere. Packets to any other (multicast, broadcast,
// link-local, unspecified, loopback, IPv4-mapped) are dropped silently and never acquire a session.
func Forwardable(addr netip.Addr) bool {
	switch {
	case !addr.IsValid(), addr.Is4In6(), addr.IsUnspecified(), addr.IsLoopback():
		return false
	case addr.IsMulticast(), addr.IsLinkLocalUnicast(), addr == broadcast:
		return false
	}
	return true
}

// broadcast is IPv4's limited broadcast address (RFC 919, section 7).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
