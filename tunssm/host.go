package tunssm

import (
	"net/netip"

	"ssmnet/packet"
)

// Host is the edge between the SSM and the operating system. The Linux parts are in the folders tun, udp and route; the
// fakes of the tests block on channels alone.
type Host struct {
	Queue         // the first, by which the probes and ICMP errors of the acquirer go
	More  []Queue // further ones
	Route Route
	Dial  Dial // to a KDC
	MTU   int  // of the TUN
}

// Queue is one queue of the interface with the socket that its frames travel through. The kernel hands the packets of one
// flow to one queue; the number of the queue is the lane of its frames, by which the peer's kernel hands them to one socket.
type Queue struct {
	TUN TUN
	UDP UDP
	// Wait waits until either may have something, or cannot be used any more, or Stop was called, of whichever: that is
	// net.ErrClosed.
	Wait func() error
}

func (h *Host) queues() []Queue { return append([]Queue{h.Queue}, h.More...) }

// TUN is a queue of the interface that the host's packets pass through, as virtio-net frames: packet.VirtioLen bytes of header and
// an IP packet of up to 64 KiB.
type TUN interface {
	Name() string
	// Offload says whether frames may leave checksums and segmentation to the kernel. Where not, every virtio-net header
	// is zero.
	Offload() bool
	// OffloadUDP says whether super-packets may be of UDP, where there may be any.
	OffloadUDP() bool
	// TryReadFrame reads one frame, or returns 0 where there is none now. After Stop it returns net.ErrClosed or os.ErrClosed,
	// and EBADFD once the interface was deleted; no other error lasts. One goroutine reads at a time.
	TryReadFrame(b []byte) (int, error)
	// WriteFrame writes one frame, given in pieces. It is safe for concurrent use; an error concerns that frame alone.
	WriteFrame(pieces ...[]byte) error
	// Stop ends reading, and wakes who waits for it.
	Stop()
	// Close is for when nobody reads or writes any more.
	Close() error
}

// UDP is a socket that frames travel through.
type UDP interface {
	LocalPort() uint16
	// TryReceive returns the datagrams that are there, up to a bound, borrowed until the next call. After Stop it returns
	// net.ErrClosed; no other error lasts. One goroutine receives at a time.
	TryReceive() ([]packet.Datagrams, error)
	// Send sends all of a batch, and tells refused of those that could not go. One that its path is known not to carry in
	// one piece is refused with EMSGSIZE. It is safe for concurrent use, and keeps nothing.
	Send(batch []packet.Datagrams, refused func(i int, err error))
	// SendFragmented sends what need not go in one piece.
	SendFragmented(packet.Datagrams) error
	// Stop ends receiving, and wakes who waits for it.
	Stop()
	// Close is for when nobody sends or receives any more.
	Close() error
}

// Route sets up the interface, the routes into it and the way to the subnets behind the host, and says how the host would
// send.
type Route interface {
	// Configure gives the interface these overlay addresses and the overlays' routes, and brings it up.
	Configure(addresses []netip.Addr, overlays []netip.Prefix) error
	// Offer makes the accepted routes these and no others. It returns why each one it refused was refused, ErrDeclined
	// where nothing but the operator's will is in the way; avoid are the underlay addresses that must not end up inside
	// the tunnel. The same routes are offered again where what was in the way may have changed.
	Offer(routes []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error
	// Forward makes the host pass packets between the interface and these subnets behind it, and no others. It returns why
	// it does not for each where it does not. It is asked anew where the host's network may have changed.
	Forward(subnets []netip.Prefix) map[netip.Prefix]error
	// Candidates are the addresses of the host's other interfaces that a peer might reach it by, the best first.
	Candidates() []netip.Addr
	// Own are all the addresses of the host, those of the interface among them.
	Own() []netip.Addr
	// Enters says whether the host sends what is for dst through the interface now. It is asked of each candidate, where Way
	// would be many questions to the kernel.
	Enters(dst netip.Addr) bool
	// Way says how the host would send a packet to dst: by which interface, because of a route to which prefix, and how
	// long it may be to go in one piece, by all that the host knows of the path. Nothing is sent.
	Way(dst netip.Addr) (ifname string, route netip.Prefix, mtu int, err error)
	// Source is the address from which it would.
	Source(dst netip.Addr) (netip.Addr, error)
}
