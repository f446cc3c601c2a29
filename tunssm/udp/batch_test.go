package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

// frames makes a batch of count frames of segment bytes, the last of last bytes, each numbered from its start.
func frames(count, segment, last int) []byte {
	b := make([]byte, (count-1)*segment+last)
	for i := range b {
		b[i] = byte(i / segment * 7)
	}
	return b
}

// datagrams is an element of one piece.
func datagrams(b []byte, segment int, dst netip.AddrPort) packet.Datagrams {
	return packet.Datagrams{Pieces: [][]byte{b}, Segment: segment, Addr: dst}
}

// send sends one element and gives what Send has against it.
func send(c *Conn, d packet.Datagrams) (refusal error) {
	c.Send([]packet.Datagrams{d}, func(_ int, err error) { refusal = err })
	return refusal
}

// receiveAll receives until size bytes have come, checks that all came from src, and returns the frames in order, and in how
// many runs they came.
func receiveAll(t *testing.T, c *Conn, size int, src netip.AddrPort) (got [][]byte, runs int) {
	t.Helper()
	for total := 0; total < size; {
		batch, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) == 0 {
			t.Fatal("received nothing")
		}
		for _, d := range batch {
			runs++
			if d.Addr != src {
				t.Fatalf("from %s, want %s", d.Addr, src)
			}
			if len(d.Pieces) != 1 || d.Segment <= 0 || d.Segment > len(d.Pieces[0]) {
				t.Fatalf("%d pieces of %d bytes in segments of %d", len(d.Pieces), size, d.Segment)
			}
			total += len(d.Pieces[0])
			for run := bytes.Clone(d.Pieces[0]); len(run) > 0; {
				frame := run[:min(d.Segment, len(run))]
				got, run = append(got, frame), run[len(frame):]
			}
		}
	}
	return got, runs
}

// receiveOne receives one datagram.
func receiveOne(t *testing.T, c *Conn) ([]byte, netip.AddrPort) {
	t.Helper()
	batch, err := c.Receive()
	if err != nil || len(batch) != 1 || batch[0].Segment != len(batch[0].Pieces[0]) {
		t.Fatalf("received %v, %v; want one datagram", batch, err)
	}
	return batch[0].Pieces[0], batch[0].Addr
}

// checkFrames compares what was received with the batch that was sent.
func checkFrames(t *testing.T, got [][]byte, b []byte, segment int) {
	t.Helper()
	for i, frame := range got {
		want := b[:min(segment, len(b))]
		if !bytes.Equal(frame, want) {
			t.Fatalf("frame %d: %d bytes, want %d of the same content", i, len(frame), len(want))
		}
		b = b[len(want):]
	}
	if len(b) != 0 {
		t.Errorf("%d bytes did not arrive", len(b))
	}
}

// TestBatches sends across a veth, in both families, from one dual-stack socket.
func TestBatches(t *testing.T) {
	for _, host := range []struct{ name, src, dst string }{
		{"IPv4", "10.77.0.1", "10.77.0.2"}, {"IPv6", "fd77::1", "fd77::2"}, {"mapped", "10.77.0.1", "::ffff:10.77.0.2"},
	} {
		for _, c := range []struct{ count, segment, last, atMost int }{
			{1, 1400, 1400, 1},
			{2, 1400, 1400, 1},
			{2, 1400, 1, 1},
			{44, 1452, 700, 1},    // a whole super-packet
			{64, 1000, 1000, 1},   // the most segments
			{200, 60, 32, 200},    // more of them than older kernels take
			{46, 1452, 1452, 46},  // more bytes than one send takes
			{200, 1452, 300, 200}, // than one sendmmsg, too
		} {
			t.Run(fmt.Sprintf("%s/%dx%d+%d", host.name, c.count-1, c.segment, c.last), func(t *testing.T) {
				inFirst, inSecond := veth(t)
				inSecond()
				to := listenOn(t, 0)
				inFirst()
				from := listenOn(t, 0)
				b := frames(c.count, c.segment, c.last)
				dst := netip.AddrPortFrom(netip.MustParseAddr(host.dst), to.LocalPort())
				if err := send(from, datagrams(b, c.segment, dst)); err != nil {
					t.Fatal(err)
				}
				src := netip.AddrPortFrom(netip.MustParseAddr(host.src), from.LocalPort())
				got, runs := receiveAll(t, to, len(b), src)
				checkFrames(t, got, b, c.segment)
				if runs > c.atMost {
					t.Errorf("%d runs, want at most %d", runs, c.atMost)
				}
			})
		}
	}
}

// TestIPv4Only is the socket of a host without IPv6.
func TestIPv4Only(t *testing.T) {
	space.Enter(t)
	c, err := listen(0, unix.AF_INET, false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, self := frames(5, 1000, 10), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalPort())
	if err := send(c, datagrams(b, 1000, self)); err != nil {
		t.Fatal(err)
	}
	got, _ := receiveAll(t, c, len(b), self)
	checkFrames(t, got, b, 1000)
	if err := send(c, datagrams(b, 1000, netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort()))); err == nil {
		t.Error("IPv6 destination: no error")
	}
}

// TestEmptyDatagram: it opens a NAT, and arrives as nothing.
func TestEmptyDatagram(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	for _, d := range []packet.Datagrams{{Addr: self}, datagrams(nil, 0, self), datagrams([]byte{}, 1400, self)} {
		if err := send(c, d); err != nil {
			t.Fatal(err)
		}
		if got, src := receiveOne(t, c); len(got) != 0 || src != self {
			t.Errorf("received %x from %s; want nothing from %s", got, src, self)
		}
	}
}

// TestNarrowPath: where a route is narrower than the frames, Send refuses them all, batch or not; SendFragmented's arrive;
// and other paths keep their segmentation.
func TestNarrowPath(t *testing.T) {
	for _, host := range []struct{ name, src, dst string }{
		{"IPv4", "10.77.0.1", "10.77.0.2"}, {"IPv6", "fd77::1", "fd77::2"},
	} {
		t.Run(host.name, func(t *testing.T) {
			inFirst, inSecond := veth(t)
			inSecond()
			to := listenOn(t, 0)
			inFirst()
			from := listenOn(t, 0)
			dst := netip.MustParseAddr(host.dst)
			narrow(t, dst, 1300)
			at := netip.AddrPortFrom(dst, to.LocalPort())
			for _, count := range []int{1, 2, 9, 100} {
				if err := send(from, datagrams(frames(count, 1452, 1452), 1452, at)); !errors.Is(err, ErrTooBig) || !errors.Is(err, unix.EMSGSIZE) {
					t.Fatalf("%d frames: %v, want %v", count, err, ErrTooBig)
				}
			}
			src := netip.AddrPortFrom(netip.MustParseAddr(host.src), from.LocalPort())
			last := frames(2, 1000, 1000)
			long := frames(3, 1452, 1452)
			from.Send([]packet.Datagrams{datagrams(long, 1452, at), datagrams(last, 1000, at)}, func(i int, err error) {
				if i != 0 || !errors.Is(err, ErrTooBig) {
					t.Errorf("element %d: %v", i, err)
				}
				if err := from.SendFragmented(datagrams(long, 1452, at)); err != nil {
					t.Error(err)
				}
			})
			got, _ := receiveAll(t, to, len(long)+len(last), src)
			checkFrames(t, got[:3], long, 1452)
			checkFrames(t, got[3:], last, 1000)
			for _, segment := range []int{0, 1452} {
				b := frames(9, 1452, 1452)
				if segment == 0 {
					b = b[:1452]
				}
				if err := from.SendFragmented(datagrams(b, segment, at)); err != nil {
					t.Fatal(err)
				}
				got, _ := receiveAll(t, to, len(b), src)
				checkFrames(t, got, b, 1452)
			}
			if err := send(from, datagrams(make([]byte, 1452), 0, at)); !errors.Is(err, ErrTooBig) {
				t.Errorf("after SendFragmented: %v, want %v", err, ErrTooBig)
			}
			b := frames(9, 1200, 1200)
			if err := send(from, datagrams(b, 1200, at)); err != nil {
				t.Fatal(err)
			}
			got, runs := receiveAll(t, to, len(b), src)
			checkFrames(t, got, b, 1200)
			if runs > 1 || len(from.singly) > 0 {
				t.Errorf("frames that fit came in %d runs; singly towards %v", runs, from.singly)
			}
		})
	}
}

// narrow gives the path to dst an MTU, as a route's attribute.
func narrow(t *testing.T, dst netip.Addr, mtu int) {
	t.Helper()
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	one := &net.IPNet{IP: dst.AsSlice(), Mask: net.CIDRMask(dst.BitLen(), dst.BitLen())}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: one, MTU: mtu}); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedFrames(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalPort())
	closed := netip.AddrPortFrom(self.Addr(), 9)
	nowhere := netip.MustParseAddrPort("192.0.2.1:9")
	for _, test := range []struct {
		name    string
		size    int
		segment int
		dst     netip.AddrPort
		want    error
	}{
		{"longer than a datagram", 65508, 0, self, ErrTooBig},
		{"longer than a datagram, IPv6", 65528, 0, netip.AddrPortFrom(netip.IPv6Loopback(), self.Port()), ErrTooBig},
		{"a batch of such", 140000, 65508, self, ErrTooBig},
		{"a segment longer than any", 140000, 70000, self, ErrTooBig},
		{"nobody listens", 100, 0, closed, nil},
		{"nobody listens still", 100, 50, closed, nil},
		{"nobody listens, IPv6", 100, 0, netip.AddrPortFrom(netip.IPv6Loopback(), 9), nil},
		{"nobody listens still, IPv6", 100, 50, netip.AddrPortFrom(netip.IPv6Loopback(), 9), nil},
		{"no route", 100, 0, nowhere, unix.ENETUNREACH},
		{"no route for a batch", 100, 10, nowhere, unix.ENETUNREACH},
	} {
		if err := send(c, datagrams(make([]byte, test.size), test.segment, test.dst)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 100)} {
		if send(c, datagrams(b, 10, netip.AddrPort{})) == nil {
			t.Error("no destination: no error")
		}
	}
	if err := send(c, datagrams([]byte("still"), 0, self)); err != nil {
		t.Fatal(err)
	}
	if got, _ := receiveOne(t, c); string(got) != "still" {
		t.Errorf("received %q", got)
	}
}

// TestConcurrentSends: batches of several senders keep their own segment sizes.
func TestConcurrentSends(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	const senders, each, count = 4, 20, 10
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			segment := 100 + s
			b := bytes.Repeat([]byte{byte(s)}, segment*count)
			for range each {
				if err := send(c, datagrams(b, segment, self)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	size := 0
	for s := range senders {
		size += (100 + s) * count * each
	}
	got, _ := receiveAll(t, c, size, self)
	if len(got) != senders*each*count {
		t.Errorf("%d frames, want %d", len(got), senders*each*count)
	}
	for _, frame := range got {
		if s := int(frame[0]); len(frame) != 100+s || !bytes.Equal(frame, bytes.Repeat(frame[:1], len(frame))) {
			t.Fatalf("a frame of %d bytes by sender %d", len(frame), s)
		}
	}
}

// TestNoAllocations sends a batch of several kinds of elements, and of a refused one.
func TestNoAllocations(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			space.Enter(t)
			c := listenOn(t, 0)
			self := netip.AddrPortFrom(netip.MustParseAddr(addr), c.LocalPort())
			b := make([]byte, 14000)
			batch := []packet.Datagrams{
				datagrams(b, 0, self), datagrams(b, 1400, self), datagrams(make([]byte, 66000), 0, self),
				{Pieces: [][]byte{b[:5000], b[5000:5001], b[5001:]}, Segment: 1400, Addr: self},
			}
			want, tooBig := 3*len(b), 0
			refused := func(int, error) { tooBig++ }
			allocs := testing.AllocsPerRun(200, func() {
				c.Send(batch, refused)
				for got := 0; got < want; {
					received, err := c.Receive()
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range received {
						got += len(d.Pieces[0])
					}
				}
			})
			if allocs != 0 || tooBig != 201 {
				t.Errorf("%v allocations a send and receive, %d refusals", allocs, tooBig)
			}
		})
	}
}

// TestModeRestored: where the socket's mode changes by half only, it is whole again.
func TestModeRestored(t *testing.T) {
	space.Enter(t)
	c, err := listen(0, unix.AF_INET, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.family = unix.AF_INET6 // which this socket has no mode of
	d := datagrams(frames(1, 100, 100), 100, netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort()))
	if err := c.SendFragmented(d); err == nil {
		t.Error("the mode of a family that it has not was set")
	}
	mode := 0
	if err := c.raw.Control(func(fd int) (err error) {
		mode, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
		return err
	}); err != nil || mode != unix.IP_PMTUDISC_DO {
		t.Errorf("the mode is %d, %v, want %d", mode, err, unix.IP_PMTUDISC_DO)
	}
}
