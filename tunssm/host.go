package tunssm

import "net/netip"

// Host is the edge between the SSM and the operating system. The Linux parts are in the folders tun, udp and route; the
// fakes of the tests block on channels alone.
type Host struct {
	TUN   TUN
	UDP   UDP
	Route Route
	Dial  Dial // to a KDC
	MTU   int  // of the TUN
}

// TUN is the interface that the host's packets pass through, as virtio-net frames: packet.VirtioLen bytes of header and
// an IP packet of up to 64 KiB.
type TUN interface {
	Name() string
	// ReadFrame waits for one frame. After Close it returns net.ErrClosed or os.ErrClosed.
	ReadFrame(b []byte) (int, error)
	// Offload says whether frames may leave checksums and segmentation to the kernel. Where not, every virtio-net header
	// is zero.
	Offload() bool
	// WriteFrame writes one frame. It is safe for concurrent use; an error concerns that frame alone.
	WriteFrame(b []byte) (int, error)
	Close() error
}

// UDP is the socket that frames travel through.
type UDP interface {
	LocalPort() uint16
	// Receive waits for datagrams of one source, joined: each is segment bytes but the last. After Close it returns
	// net.ErrClosed; no other error lasts.
	Receive(b []byte) (n, segment int, src netip.AddrPort, err error)
	// Send sends b as datagrams of segment bytes, the last may be shorter. It is safe for concurrent use.
	// A frame that its path is known not to carry in one piece is refused with EMSGSIZE, and so are those behind it.
	Send(b []byte, segment int, dst netip.AddrPort) error
	// SendFragmented is Send for frames that need not go in one piece.
	SendFragmented(b []byte, segment int, dst netip.AddrPort) error
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
