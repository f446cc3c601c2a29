package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
	"ssmnet/tunssm/route"
)

// openUp opens tun0 in the thread's namespace, configured and up.
func openUp(t testing.TB, mtu int, addresses ...string) *Queue {
	t.Helper()
	d := openOne(t, "tun0")
	configure(t, d, mtu, addresses...)
	return d
}

// openOne opens an interface of one queue.
func openOne(t testing.TB, name string) *Queue {
	t.Helper()
	queues, err := Open(name, 1)
	if err != nil || len(queues) != 1 {
		t.Fatalf("%d queues, %v", len(queues), err)
	}
	t.Cleanup(func() { queues[0].Close() })
	return queues[0]
}

func configure(t testing.TB, d *Queue, mtu int, addresses ...string) {
	t.Helper()
	t.Cleanup(func() { d.Close() })
	var prefixes []netip.Prefix
	for _, a := range addresses {
		prefixes = append(prefixes, netip.MustParsePrefix(a))
	}
	if err := route.Configure(d.Name(), prefixes, mtu); err != nil {
		t.Fatal(err)
	}
}

// sum is the Internet checksum (RFC 1071) of the parts as if they were one, each of even length but the last.
func sum(parts ...[]byte) uint16 {
	var s uint32
	for _, p := range parts {
		for ; len(p) > 1; p = p[2:] {
			s += uint32(binary.BigEndian.Uint16(p))
		}
		if len(p) == 1 {
			s += uint32(p[0]) << 8
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// echo makes the frame of an ICMP or ICMPv6 echo request with a zero virtio-net header.
func echo(src, dst string, sequence uint16) []byte {
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	icmp := make([]byte, 8+32)
	icmp[0] = 8
	binary.BigEndian.PutUint16(icmp[6:], sequence)
	frame := make([]byte, packet.VirtioLen)
	if from.Is4() {
		binary.BigEndian.PutUint16(icmp[2:], sum(icmp))
		ip := []byte{0x45, 0, 0, byte(20 + len(icmp)), 0, 0, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0}
		ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
		binary.BigEndian.PutUint16(ip[10:], sum(ip))
		return append(append(frame, ip...), icmp...)
	}
	icmp[0] = 128
	pseudo := append(append([]byte{}, from.AsSlice()...), to.AsSlice()...)
	rest := []byte{0, 0, 0, byte(len(icmp)), 0, 0, 0, unix.IPPROTO_ICMPV6}
	binary.BigEndian.PutUint16(icmp[2:], sum(pseudo, rest, icmp))
	ip := append([]byte{0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 64}, pseudo...)
	return append(append(frame, ip...), icmp...)
}

// isReply says whether frame answers the echo request with that sequence number.
func isReply(frame []byte, sequence uint16) bool {
	packet := frame[packet.VirtioLen:]
	switch packet[0] >> 4 {
	case 4:
		return packet[9] == unix.IPPROTO_ICMP && packet[20] == 0 && binary.BigEndian.Uint16(packet[26:]) == sequence
	case 6:
		return packet[6] == unix.IPPROTO_ICMPV6 && packet[40] == 129 && binary.BigEndian.Uint16(packet[46:]) == sequence
	}
	return false
}

var families = []struct{ name, prefix, local, remote string }{
	{"IPv4", "10.90.0.1/24", "10.90.0.1", "10.90.0.2"},
	{"IPv6", "fd90::1/64", "fd90::1", "fd90::2"},
}

// TestEcho asks the kernel through the TUN. The very first frame read is the reply, so that nothing was emitted on the
// way up, and it allocates nothing.
func TestEcho(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			space.Enter(t, space.TUN)
			d := openUp(t, 1420, f.prefix)
			if !d.Offload() {
				t.Error("no virtio-net header on this kernel")
			}
			request, buf := echo(f.remote, f.local, 1), make([]byte, maxFrame)
			ask := func() {
				if err := d.WriteFrame(request); err != nil {
					t.Fatal(err)
				}
				n, err := d.ReadFrame(buf)
				if err != nil {
					t.Fatal(err)
				}
				if !isReply(buf[:n], 1) || n != len(request) {
					t.Fatalf("got %x, not the echo reply", buf[:n])
				}
			}
			ask()
			if allocs := testing.AllocsPerRun(200, ask); allocs != 0 {
				t.Errorf("%v allocations a write and read", allocs)
			}
		})
	}
}

// TestPieces: a frame is one wherever it is cut, in any number of pieces, and what is read without waiting is there or not.
func TestPieces(t *testing.T) {
	for name, flags := range map[string]uint16{"virtio-net header": unix.IFF_VNET_HDR, "plain": 0} {
		t.Run(name, func(t *testing.T) {
			space.Enter(t, space.TUN)
			d, err := open("tun0", flags|unix.IFF_TUN|unix.IFF_NO_PI)
			if err != nil {
				t.Fatal(err)
			}
			configure(t, d, 1420, "10.90.0.1/24")
			buf := make([]byte, maxFrame)
			if n, err := d.TryReadFrame(buf); n != 0 || err != nil {
				t.Fatalf("read %d bytes, %v, before anything was sent", n, err)
			}
			request := echo("10.90.0.2", "10.90.0.1", 5)
			several := [][]byte{request[:packet.VirtioLen], nil, request[packet.VirtioLen:12], request[12:40], {}, request[40:]}
			single := [][]byte{request[:packet.VirtioLen]}
			for i := range request[packet.VirtioLen:] {
				single = append(single, request[packet.VirtioLen+i:][:1])
			}
			many := slices.Insert(slices.Clone(single), 1, make([][]byte, 2*fewPieces)...)
			for i, pieces := range [][][]byte{{request}, {request[:packet.VirtioLen], request[packet.VirtioLen:]}, several, single, many} {
				if err := d.WriteFrame(pieces...); err != nil {
					t.Fatalf("%d: %v", i, err)
				}
				n, err := d.TryReadFrame(buf)
				if err != nil || n != len(request) || !isReply(buf[:n], 5) {
					t.Errorf("%d: read %x, %v; want the echo reply", i, buf[:n], err)
				}
			}
			write := func() {
				if err := d.WriteFrame(several...); err != nil {
					t.Fatal(err)
				}
				if _, err := d.TryReadFrame(buf); err != nil {
					t.Fatal(err)
				}
			}
			if allocs := testing.AllocsPerRun(200, write); allocs != 0 {
				t.Errorf("%v allocations a write in pieces and a read", allocs)
			}
		})
	}
}

// TestSilentOnUp compares with an interface brought up as the kernel would have it, which solicits routers.
func TestSilentOnUp(t *testing.T) {
	space.Enter(t, space.TUN)
	silent := openUp(t, 1420, "10.90.0.1/24", "fd90::1/64")
	chatty := openOne(t, "tun1")
	link, err := netlink.LinkByName("tun1")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxFrame)
	allRouters := netip.MustParseAddr("ff02::2").AsSlice()
	for {
		n, err := chatty.ReadFrame(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n >= packet.VirtioLen+40 && bytes.Equal(buf[packet.VirtioLen+24:packet.VirtioLen+40], allRouters) {
			break
		}
	}
	if err := silent.WriteFrame(echo("fd90::2", "fd90::1", 7)); err != nil {
		t.Fatal(err)
	}
	n, err := silent.ReadFrame(buf)
	if err != nil {
		t.Fatal(err)
	}
	if !isReply(buf[:n], 7) {
		t.Errorf("the interface emitted %x by itself", buf[:n])
	}
}

// TestPlain is the fallback: a device without a virtio-net header, seen through one.
func TestPlain(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			space.Enter(t, space.TUN)
			d, err := open("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
			if err != nil {
				t.Fatal(err)
			}
			configure(t, d, 1420, f.prefix)
			if d.Offload() {
				t.Error("Offload() without a virtio-net header")
			}
			request := echo(f.remote, f.local, 3)
			if err := d.WriteFrame(request); err != nil {
				t.Fatal(err)
			}
			buf := bytes.Repeat([]byte{0xff}, maxFrame)
			n, err := d.ReadFrame(buf)
			if err != nil || !isReply(buf[:n], 3) {
				t.Fatalf("read %x, %v", buf[:n], err)
			}
			if !bytes.Equal(buf[:packet.VirtioLen], make([]byte, packet.VirtioLen)) {
				t.Errorf("header %x, want zeros", buf[:packet.VirtioLen])
			}
			request[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
			if err := d.WriteFrame(request); !errors.Is(err, ErrOffload) {
				t.Errorf("partial checksum: %v, want ErrOffload", err)
			}
		})
	}
}

func TestMalformedFrames(t *testing.T) {
	space.Enter(t, space.TUN)
	d := openUp(t, 1420, "10.90.0.1/24")
	header := func(flags, kind byte, fields ...uint16) []byte {
		frame := echo("10.90.0.2", "10.90.0.1", 1)
		frame[0], frame[1] = flags, kind
		for i, v := range fields {
			binary.NativeEndian.PutUint16(frame[2+2*i:], v)
		}
		return frame
	}
	notIP := echo("10.90.0.2", "10.90.0.1", 1)
	notIP[packet.VirtioLen] = 0
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, ErrShort},
		{"header only", make([]byte, packet.VirtioLen), ErrShort},
		{"less than a header", make([]byte, packet.VirtioLen-1), ErrShort},
		{"neither IPv4 nor IPv6", notIP, unix.EINVAL},
		{"unknown segmentation", header(0, 77, 0, 100), unix.EINVAL},
		{"segments of nothing", header(1, unix.VIRTIO_NET_HDR_GSO_TCPV4, 40, 0, 20, 16), unix.EINVAL},
		{"checksum outside", header(unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 5000, 16), unix.EINVAL},
		{"header outside", header(0, 0, 5000), unix.EINVAL},
	} {
		if err := d.WriteFrame(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := d.WriteFrame(); !errors.Is(err, ErrShort) {
		t.Errorf("no piece: %v, want ErrShort", err)
	}
	if err := d.WriteFrame([]byte{0}, make([]byte, 100)); !errors.Is(err, ErrShort) {
		t.Errorf("a header in two pieces: %v, want ErrShort", err)
	}
	if err := d.WriteFrame(make([]byte, packet.VirtioLen), nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("nothing behind the header: %v, want EINVAL", err)
	}
	if _, err := d.ReadFrame(make([]byte, maxFrame-1)); !errors.Is(err, ErrShort) {
		t.Errorf("short buffer: %v, want ErrShort", err)
	}
	if err := d.WriteFrame(echo("10.90.0.2", "10.90.0.1", 9)); err != nil {
		t.Fatalf("a good frame after the bad ones: %v", err)
	}
	buf := make([]byte, maxFrame)
	if n, err := d.ReadFrame(buf); err != nil || !isReply(buf[:n], 9) {
		t.Errorf("read %x, %v; want the reply to the good frame", buf[:n], err)
	}
}

func TestConcurrentWrites(t *testing.T) {
	space.Enter(t, space.TUN)
	d := openUp(t, 1420, "10.90.0.1/24")
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := d.WriteFrame(echo("10.90.0.2", "10.90.0.1", uint16(w*each+i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	missing := make(map[uint16]bool)
	for i := range uint16(writers * each) {
		missing[i] = true
	}
	for buf := make([]byte, maxFrame); len(missing) > 0; {
		n, err := d.ReadFrame(buf)
		if err != nil {
			t.Fatal(err)
		}
		sequence := binary.BigEndian.Uint16(buf[packet.VirtioLen+26:])
		if !isReply(buf[:n], sequence) || !missing[sequence] {
			t.Fatalf("unexpected frame %x", buf[:n])
		}
		delete(missing, sequence)
	}
}
