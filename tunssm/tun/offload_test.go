package tun

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

// traffic is what crossed the wire between two TUNs.
type traffic struct {
	frames  atomic.Int64  // that one send would take at most
	send    atomic.Int64  // bytes of it
	kinds   atomic.Uint64 // bit set of the gso_types seen
	partial atomic.Int64  // frames whose checksum is left to the receiver
	busy    atomic.Int64  // queues that frames were read from
}

// carry moves frames from one device to the other until either is stopped.
func (w *traffic) carry(t *testing.T, from, to *Queue) {
	buf := make([]byte, maxFrame)
	for first := true; ; first = false {
		n, err := from.ReadFrame(buf)
		if err != nil {
			return
		}
		if first {
			w.busy.Add(1)
		}
		w.kinds.Or(1 << (buf[1] &^ unix.VIRTIO_NET_HDR_GSO_ECN))
		if buf[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
			w.partial.Add(1)
		}
		frames, send := sealed(buf[:n])
		w.frames.Store(max(w.frames.Load(), int64(frames)))
		w.send.Store(max(w.send.Load(), int64(send)))
		if err := to.WriteFrame(buf[:n]); err != nil && t.Context().Err() == nil {
			t.Errorf("the kernel refused a frame it had made: %v", err)
		}
	}
}

// sealed gives how many frames a virtio-net frame becomes on the underlay, and of how many bytes in all.
func sealed(frame []byte) (frames, send int) {
	packetLen := len(frame) - packet.VirtioLen
	if frame[1] == unix.VIRTIO_NET_HDR_GSO_NONE {
		return 1, packetLen + packet.Overhead
	}
	headers, segment := int(binary.NativeEndian.Uint16(frame[2:])), int(binary.NativeEndian.Uint16(frame[4:]))
	frames = (packetLen - headers + segment - 1) / segment
	return frames, packetLen - headers + frames*(headers+packet.Overhead)
}

// wire opens a TUN of so many queues and of this MTU in each of two namespaces, with the addresses .1 and .2 of the prefix,
// and joins them queue by queue. It calls inFirst and inSecond with the thread in the first and in the second namespace.
func wire(t *testing.T, queues, mtu int, addresses [2]string, inFirst, inSecond func()) *traffic {
	w := new(traffic)
	var ends [2][]*Queue
	for i, then := range []func(){inFirst, func() {}} {
		var err error
		space.Enter(t, space.TUN)
		if ends[i], err = Open("tun0", queues); err != nil {
			t.Fatal(err)
		}
		for _, q := range ends[i] {
			configure(t, q, mtu, addresses[i])
		}
		then()
	}
	var carriers sync.WaitGroup
	for i := range queues {
		carriers.Go(func() { w.carry(t, ends[0][i], ends[1][i]) })
		carriers.Go(func() { w.carry(t, ends[1][i], ends[0][i]) })
	}
	t.Cleanup(func() {
		for i := range queues {
			ends[0][i].Stop()
			ends[1][i].Stop()
		}
		carriers.Wait()
	})
	inSecond()
	return w
}

// TestTCPSuperFrames sends a TCP stream from TUN to TUN. It arrives whole, in frames far above the MTU and with checksums
// that nobody computed. None needs more than one send on the underlay, and some fill it as far as whole frames can.
func TestTCPSuperFrames(t *testing.T) {
	const maxFrames, maxSend = 64, 65000
	for _, family := range []struct {
		name, listen string
		addresses    [2]string
		kind         uint64
	}{
		{"IPv4", "10.90.0.1:7", [2]string{"10.90.0.1/24", "10.90.0.2/24"}, unix.VIRTIO_NET_HDR_GSO_TCPV4},
		{"IPv6", "[fd90::1]:7", [2]string{"fd90::1/64", "fd90::2/64"}, unix.VIRTIO_NET_HDR_GSO_TCPV6},
	} {
		for _, mtu := range []int{1280, 1420, 8920} {
			t.Run(fmt.Sprintf("%s/%d", family.name, mtu), func(t *testing.T) {
				w := stream(t, mtu, family.listen, family.addresses)
				if w.kinds.Load()&(1<<family.kind) == 0 || w.partial.Load() == 0 {
					t.Errorf("gso_types %b, %d partial checksums: want super-frames of type %d",
						w.kinds.Load(), w.partial.Load(), family.kind)
				}
				frames, send, full := w.frames.Load(), w.send.Load(), int64(maxSend/(mtu+packet.Overhead))
				if frames > maxFrames || send > maxSend || frames != full {
					t.Errorf("at most %d frames and %d bytes a send; want %d and %d, and %d full frames",
						frames, send, maxFrames, maxSend, full)
				}
			})
		}
	}
}

// stream sends 8 MiB through a TCP connection from the second to the first.
func stream(t *testing.T, mtu int, listen string, addresses [2]string) *traffic {
	content := make([]byte, 8<<20)
	rand.Read(content)
	received := sha256.New()
	var receiver sync.WaitGroup
	var listener net.Listener
	w := wire(t, 1, mtu, addresses, func() {
		var err error
		if listener, err = net.Listen("tcp", listen); err != nil {
			t.Fatal(err)
		}
		receiver.Go(func() {
			conn, err := listener.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := io.Copy(received, conn); err != nil {
				t.Error(err)
			}
		})
	}, func() {
		defer receiver.Wait()
		defer listener.Close()
		conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(listen)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil { // until the receiver has all and closes
			t.Fatal(err)
		}
	})
	if want := sha256.Sum256(content); !bytes.Equal(received.Sum(nil), want[:]) {
		t.Error("the stream arrived changed")
	}
	return w
}

// TestUDPSuperFrames sends with UDP_SEGMENT into the TUN: USO hands the run over as one frame, and a kernel without it (Linux
// 6.2) each datagram in one.
func TestUDPSuperFrames(t *testing.T) {
	const segment, count = 1200, 20
	for name, want := range map[string]struct {
		kind   byte
		frames int
	}{
		"USO": {unix.VIRTIO_NET_HDR_GSO_UDP_L4, 1}, "without": {unix.VIRTIO_NET_HDR_GSO_NONE, count},
	} {
		t.Run(name, func(t *testing.T) {
			space.Enter(t, space.TUN)
			if name == "without" {
				const all = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
				space.Refuse(t, unix.EINVAL, unix.SYS_IOCTL, map[int]uint32{1: unix.TUNSETOFFLOAD, 2: all})
			}
			d := openUp(t, 1420, "10.90.0.1/24")
			if !d.Offload() {
				t.Error("no offload")
			}
			sendRun(t, segment, count)
			buf := make([]byte, maxFrame)
			for i := range want.frames {
				n, err := d.ReadFrame(buf)
				if err != nil {
					t.Fatal(err)
				}
				if length := packet.VirtioLen + 28 + segment*count/want.frames; buf[1] != want.kind || n != length {
					t.Errorf("frame %d: gso_type %d, %d bytes; want %d, %d", i, buf[1], n, want.kind, length)
				}
			}
			if n, err := d.TryReadFrame(buf); n != 0 || err != nil {
				t.Errorf("one more frame: %d bytes, %v", n, err)
			}
		})
	}
}

// sendRun sends datagrams to 10.90.0.2 with one send.
func sendRun(t *testing.T, segment, count int) {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 90, 0, 2), Port: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, segment*count)); err != nil {
		t.Fatal(err)
	}
}
