package netns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// networkOrder is a number as packet(7) wants it.
func networkOrder(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}

// wire sends whole IP packets, such as they are, from one host to another: the kernel sums, checks and routes nothing.
type wire struct {
	fd int
	to unix.SockaddrLinklayer
}

func newWire(t *testing.T, from, to *Host) *wire {
	t.Helper()
	w := &wire{fd: -1}
	device := func(h *Host) (d *net.Interface) {
		var err error
		h.in(t, func() { d, err = net.InterfaceByName("eth0") })
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	far, near := device(to), device(from)
	w.to = unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: near.Index, Halen: 6}
	copy(w.to.Addr[:], far.HardwareAddr)
	var err error
	from.in(t, func() { w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// send gives a packet to the wire; one that is longer than the wire takes, or finds no room, is lost there.
func (w *wire) send(packet []byte) { _ = unix.Sendto(w.fd, packet, 0, &w.to) }

// datagram is a UDP datagram in an IPv4 packet, from any source.
func datagram(src, dst netip.AddrPort, payload []byte) []byte {
	b := udp4(src.Addr(), dst.Addr(), dst.Port(), string(payload))
	binary.BigEndian.PutUint16(b[20:], src.Port())
	return b
}

// sumHeader sets the checksum of an IPv4 header of 20 bytes.
func sumHeader(b []byte) {
	b[10], b[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
}

// overheard are the last packets that a host has sent of one protocol to one port.
type overheard struct {
	mu       sync.Mutex
	payloads [][]byte
	wanted   func(payload []byte) bool
}

// overhear listens at the bridge's end of the host's cable until the test ends.
func overhear(
	t *testing.T, n *Net, h *Host, protocol byte, port uint16, wanted func([]byte) bool,
) *overheard {
	t.Helper()
	o, fd := &overheard{wanted: wanted}, -1
	var err error
	n.Bridge.in(t, func() {
		var cable *net.Interface
		if cable, err = net.InterfaceByName(h.Name); err != nil {
			return
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		every := networkOrder(unix.ETH_P_ALL) // the bridge takes packets away from whoever wants those of IP alone
		if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every, Ifindex: cable.Index}); err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 1<<16)
		for t.Context().Err() == nil {
			if size, _, err := unix.Recvfrom(fd, b, 0); err == nil {
				if p, ok := parsePacket(b[:size]); ok && p.protocol == protocol && p.dst.Port() == port && o.wanted(p.payload) {
					o.add(bytes.Clone(p.payload))
				}
			}
		}
	}()
	t.Cleanup(func() {
		<-ended
		unix.Close(fd)
	})
	return o
}

func (o *overheard) add(payload []byte) {
	const most = 100
	o.mu.Lock()
	defer o.mu.Unlock()
	o.payloads = append(o.payloads[max(0, len(o.payloads)+1-most):], payload)
}

// pick is a copy of one of them, a late one sooner than an early one.
func (o *overheard) pick(r *rand.Rand) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	from := r.IntN(len(o.payloads))
	return bytes.Clone(o.payloads[from+r.IntN(len(o.payloads)-from)])
}

// some waits until there is something to pick.
func (o *overheard) some(t *testing.T, what string) {
	t.Helper()
	eventually(t, started, what, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.payloads) == 0 {
			return errors.New("nothing was overheard")
		}
		return nil
	})
}

// mutant makes a datagram for the frame port out of a frame that was on the wire.
func mutant(r *rand.Rand, frames *overheard) []byte {
	f := frames.pick(r)
	switch r.IntN(10) {
	case 0: // as it was
	case 1:
		f[r.IntN(len(f))] ^= 1 << r.IntN(8)
	case 2:
		f = f[:r.IntN(len(f))]
	case 3:
		f = append(f, junk(r, 1+r.IntN(1300))...)
	case 4:
		f[r.IntN(4)] = byte(r.Uint32()) // type, flags, lane, zero
	case 5:
		copy(f[4:8], frames.pick(r)[4:8]) // another's SPI
	case 6:
		copy(f[8:16], junk(r, 8)) // another counter
	case 7:
		f = append(f[:16], junk(r, r.IntN(1400))...)
	case 8:
		f = junk(r, r.IntN(1472))
	case 9:
		f = nil
	}
	return f
}

func junk(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// hostilePacket is a mutant in a packet of its own: from the attacker, from the frames' sender, from anybody; in a packet
// that is malformed, or in fragments that overlap or never become whole.
func hostilePacket(r *rand.Rand, frames *overheard) []byte {
	sources := []netip.AddrPort{
		netip.MustParseAddrPort("10.77.0.13:7601"), netip.MustParseAddrPort("10.77.0.11:7601"),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(r.Uint32()), byte(r.Uint32())}), uint16(r.Uint32())),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(r.Uint32()), 1, 2, 3}), uint16(r.Uint32())),
	}
	b := datagram(sources[r.IntN(len(sources))], netip.MustParseAddrPort("10.77.0.12:7601"), mutant(r, frames))
	switch r.IntN(12) {
	case 0: // a header with something changed, its checksum right
		b[r.IntN(20)] = byte(r.Uint32())
		sumHeader(b)
	case 1: // and wrong
		b[r.IntN(20)] ^= byte(1 + r.IntN(255))
	case 2:
		b = b[:r.IntN(len(b)+1)]
	case 3: // UDP lengths that are not so
		binary.BigEndian.PutUint16(b[24:], uint16(r.Uint32()))
	case 4: // a fragment of one of few packets
		b[4], b[5] = 0, byte(r.IntN(8))
		binary.BigEndian.PutUint16(b[6:], uint16(r.IntN(2))<<13|uint16(r.IntN(200)))
		sumHeader(b)
	}
	return b
}

// floodRate is how many datagrams a second come: about what two cores that do all the rest can hand on.
const floodRate = 50_000

// TestDatagramFlood: whatever comes to the frame port of an SSM, from wherever, its peers have their sessions.
func TestDatagramFlood(t *testing.T) {
	s := newFloodScene(t)
	frames := overhear(t, s.Net, s.a, unix.IPPROTO_UDP, framePort, func(b []byte) bool { return len(b) > 0 })
	s.ready(t)
	frames.some(t, "a frame of h1's")
	w := newWire(t, s.c, s.b)
	count := times(10_000, 100_000)
	var sent int
	s.under(t, "datagrams", func(ctx context.Context, done func()) {
		r := rand.New(rand.NewPCG(1, 2))
		sent = paced(ctx, floodRate, count, done, func() { w.send(hostilePacket(r, frames)) })
	})
	drops := s.b.Status(t).Drops
	t.Logf("%d datagrams were sent; %s has dropped %v", sent, s.b.Name, drops)
	for _, why := range []string{"not_a_frame", "unknown_spi", "not_opened", "replayed"} {
		if drops[why] < uint64(count/1000) {
			t.Errorf("%d dropped as %s: the flood did not come in", drops[why], why)
		}
	}
}
