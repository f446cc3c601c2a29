package route

import (
	"github.com/vishvananda/netlink"

	"ssmnet/packet"
)

// One super-packet that is read is to be one send, one receive and one write at the other end: two sends where one would
// do cost a tenth of the throughput. So the interface's super-packets are no longer than what one send takes once each of
// their segments is a frame.
const (
	// maxSend is how many bytes of frames one send takes: below 65,535 less the IP and UDP headers of either family.
	maxSend = 65000
	// maxFrames is how many frames one send takes (UDP_MAX_SEGMENTS before Linux 6.9).
	maxFrames = 64

	// The headers of a segment: IP and TCP with timestamps, which are on wherever both sides have them. Without them
	// segments carry more, and fit the better. Selective acknowledgements make headers longer, of which the rare segment
	// that also carries data may make a second send.
	headersIPv4 = 20 + 20 + 12
	headersIPv6 = 40 + 20 + 12
)

// gsoSize gives how long a super-packet may be, without its headers, of which each of its segments has a copy. The kernel
// takes up to 320 bytes more off, for headers of all kinds (MAX_TCP_HEADER), and fills what is left with whole segments.
func gsoSize(mtu, headers int) int {
	frames := max(1, min(maxFrames, maxSend/(mtu+packet.Overhead)))
	return maxSend - frames*(headers+packet.Overhead)
}

// setGSO bounds the super-packets of an interface of this MTU.
func setGSO(link netlink.Link, mtu int) {
	_ = netlink.LinkSetGSOMaxSegs(link, maxFrames)
	_ = netlink.LinkSetGSOMaxSize(link, gsoSize(mtu, headersIPv6))     // before Linux 6.3 for both
	_ = netlink.LinkSetGSOIPv4MaxSize(link, gsoSize(mtu, headersIPv4)) // Linux 6.3
}
