package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

// frames makes a batch of count frames of segment bytes, the last of last bytes, each numbered from its start.
func frames(count, segment, last int) []byte {
	b := make([]byte, (count-1)*segment+last)
	for i := range b {
		b[i] = byte(i / segment * 7)
	}
	return b
}

// receiveAll receives until size bytes have come, checks that all came from src, and returns the frames in order.
func receiveAll(t *testing.T, c *Conn, size int, src netip.AddrPort) (got [][]byte, calls int) {
	t.Helper()
	buf := make([]byte, maxBatch)
	for total := 0; total < size; calls++ {
		n, segment, from, err := c.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		if from != src {
			t.Fatalf("from %s, want %s", from, src)
		}
		if segment <= 0 || segment > n {
			t.Fatalf("%d bytes in segments of %d", n, segment)
		}
		total += n
		for run := bytes.Clone(buf[:n]); len(run) > 0; {
			frame := run[:min(segment, len(run))]
			got, run = append(got, frame), run[len(frame):]
		}
	}
	return got, calls
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
			{44, 1452, 700, 1},  // a whole super-packet
			{64, 1000, 1000, 1}, // the most segments
			{65, 1000, 1000, 2},
			{200, 60, 32, 4},
			{46, 1452, 1452, 2}, // more bytes than one send takes
		} {
			t.Run(fmt.Sprintf("%s/%dx%d+%d", host.name, c.count-1, c.segment, c.last), func(t *testing.T) {
				inFirst, inSecond := veth(t)
				inSecond()
				to := listenOn(t, 0)
				inFirst()
				from := listenOn(t, 0)
				b := frames(c.count, c.segment, c.last)
				dst := netip.AddrPortFrom(netip.MustParseAddr(host.dst), to.LocalPort())
				if err := from.Send(b, c.segment, dst); err != nil {
					t.Fatal(err)
				}
				src := netip.AddrPortFrom(netip.MustParseAddr(host.src), from.LocalPort())
				got, calls := receiveAll(t, to, len(b), src)
				checkFrames(t, got, b, c.segment)
				if calls > c.atMost {
					t.Errorf("%d receives, want at most %d", calls, c.atMost)
				}
			})
		}
	}
}

// TestIPv4Only is the socket of a host without IPv6.
func TestIPv4Only(t *testing.T) {
	space.Enter(t)
	c, err := listen(0, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, self := frames(5, 1000, 10), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalPort())
	if err := c.Send(b, 1000, self); err != nil {
		t.Fatal(err)
	}
	got, _ := receiveAll(t, c, len(b), self)
	checkFrames(t, got, b, 1000)
	if err := c.Send(b, 1000, netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())); err == nil {
		t.Error("IPv6 destination: no error")
	}
}

// TestEmptyDatagram: it opens a NAT, and arrives as nothing.
func TestEmptyDatagram(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	if err := c.Send(nil, 0, self); err != nil {
		t.Fatal(err)
	}
	if n, segment, src, err := c.Receive(make([]byte, maxBatch)); n != 0 || segment != 0 || src != self || err != nil {
		t.Errorf("Receive = %d, %d, %s, %v; want 0, 0, %s", n, segment, src, err, self)
	}
}

// TestShortBuffer: what does not fit is dropped and not handed over cut.
func TestShortBuffer(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	fits := bytes.Repeat([]byte{1}, 100)
	for _, datagram := range [][]byte{make([]byte, 101), fits} {
		if err := c.Send(datagram, 0, self); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 100)
	if n, _, _, err := c.Receive(b); !bytes.Equal(b[:n], fits) || err != nil {
		t.Errorf("Receive = %x, %v; want the datagram that fits", b[:n], err)
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
				if err := from.Send(frames(count, 1452, 1452), 1452, at); !errors.Is(err, ErrTooBig) || !errors.Is(err, unix.EMSGSIZE) {
					t.Fatalf("%d frames: %v, want %v", count, err, ErrTooBig)
				}
			}
			src := netip.AddrPortFrom(netip.MustParseAddr(host.src), from.LocalPort())
			for _, segment := range []int{0, 1452} {
				b := frames(9, 1452, 1452)
				if segment == 0 {
					b = b[:1452]
				}
				if err := from.SendFragmented(b, segment, at); err != nil {
					t.Fatal(err)
				}
				got, _ := receiveAll(t, to, len(b), src)
				checkFrames(t, got, b, 1452)
			}
			if err := from.Send(make([]byte, 1452), 0, at); !errors.Is(err, ErrTooBig) {
				t.Errorf("after SendFragmented: %v, want %v", err, ErrTooBig)
			}
			b := frames(9, 1200, 1200)
			if err := from.Send(b, 1200, at); err != nil {
				t.Fatal(err)
			}
			got, calls := receiveAll(t, to, len(b), src)
			checkFrames(t, got, b, 1200)
			if calls > 1 || from.singly.Load() {
				t.Errorf("frames that fit came in %d pieces; singly %v", calls, from.singly.Load())
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

// TestSingly is the socket of a network card that cannot segment.
func TestSingly(t *testing.T) {
	space.Enter(t)
	c := listenOn(t, 0)
	c.singly.Store(true)
	self := netip.AddrPortFrom(netip.IPv6Loopback(), c.LocalPort())
	b := frames(30, 1200, 17)
	if err := c.Send(b, 1200, self); err != nil {
		t.Fatal(err)
	}
	got, _ := receiveAll(t, c, len(b), self)
	checkFrames(t, got, b, 1200)
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
		{"nobody listens", 100, 0, closed, nil},
		{"nobody listens still", 100, 50, closed, nil},
		{"nobody listens, IPv6", 100, 0, netip.AddrPortFrom(netip.IPv6Loopback(), 9), nil},
		{"nobody listens still, IPv6", 100, 50, netip.AddrPortFrom(netip.IPv6Loopback(), 9), nil},
		{"no route", 100, 0, nowhere, unix.ENETUNREACH},
		{"no route for a batch", 100, 10, nowhere, unix.ENETUNREACH},
	} {
		if err := c.Send(make([]byte, test.size), test.segment, test.dst); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if c.Send(nil, 0, netip.AddrPort{}) == nil {
		t.Error("no destination: no error")
	}
	buf := make([]byte, maxBatch)
	if err := c.Send([]byte("still"), 0, self); err != nil {
		t.Fatal(err)
	}
	if n, _, _, err := c.Receive(buf); string(buf[:n]) != "still" || err != nil {
		t.Errorf("Receive = %q, %v", buf[:n], err)
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
				if err := c.Send(b, segment, self); err != nil {
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

func TestNoAllocations(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		for _, segment := range []int{0, 1400} {
			t.Run(fmt.Sprintf("%s/%d", addr, segment), func(t *testing.T) {
				space.Enter(t)
				c := listenOn(t, 0)
				self := netip.AddrPortFrom(netip.MustParseAddr(addr), c.LocalPort())
				b, buf := make([]byte, 14000), make([]byte, maxBatch)
				allocs := testing.AllocsPerRun(200, func() {
					if err := c.Send(b, segment, self); err != nil {
						t.Fatal(err)
					}
					if n, _, _, err := c.Receive(buf); n != len(b) || err != nil {
						t.Fatal(n, err)
					}
				})
				if allocs != 0 {
					t.Errorf("%v allocations a send and receive", allocs)
				}
			})
		}
	}
}

func TestSegmentSize(t *testing.T) {
	message := func(level, kind int32, data ...byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		header := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		header.Level, header.Type = level, kind
		header.SetLen(unix.CmsgLen(len(data)))
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	size := binary.NativeEndian.AppendUint32(nil, 1452)
	gro := message(unix.SOL_UDP, unix.UDP_GRO, size...)
	other := message(unix.SOL_SOCKET, unix.SO_TIMESTAMP, make([]byte, 16)...)
	for _, c := range []struct {
		name    string
		control []byte
		want    int
	}{
		{"none", nil, 0},
		{"GRO", gro, 1452},
		{"GRO behind another", append(bytes.Clone(other), gro...), 1452},
		{"another", other, 0},
		{"short value", message(unix.SOL_UDP, unix.UDP_GRO, 1, 2), 0},
		{"cut header", gro[:unix.CmsgLen(0)-1], 0},
		{"cut value", gro[:unix.CmsgLen(0)+1], 0},
		{"length zero", make([]byte, 64), 0},
		{"all ones", bytes.Repeat([]byte{0xff}, 64), 0},
	} {
		if got := segmentSize(c.control); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
