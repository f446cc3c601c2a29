package tun

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
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
	longest atomic.Int64  // packet, in bytes
	kinds   atomic.Uint64 // bit set of the gso_types seen
	partial atomic.Int64  // frames whose checksum is left to the receiver
}

// carry moves frames from one device to the other until either is stopped.
func (w *traffic) carry(t *testing.T, from, to *Device) {
	buf := make([]byte, maxFrame)
	for {
		n, err := from.ReadFrame(buf)
		if err != nil {
			return
		}
		w.longest.Store(max(w.longest.Load(), int64(n-packet.VirtioLen)))
		w.kinds.Or(1 << (buf[1] &^ unix.VIRTIO_NET_HDR_GSO_ECN))
		if buf[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
			w.partial.Add(1)
		}
		if err := to.WriteFrame(buf[:n]); err != nil && t.Context().Err() == nil {
			t.Errorf("the kernel refused a frame it had made: %v", err)
		}
	}
}

// wire opens a TUN in each of two namespaces, with the addresses .1 and .2 of the prefix, and joins them. It calls
// inFirst and inSecond with the thread in the first and in the second namespace.
func wire(t *testing.T, addresses [2]string, inFirst, inSecond func()) *traffic {
	w := new(traffic)
	space.Enter(t, space.TUN)
	first := openUp(t, addresses[0])
	inFirst()
	space.Enter(t, space.TUN)
	second := openUp(t, addresses[1])
	var carriers sync.WaitGroup
	carriers.Go(func() { w.carry(t, first, second) })
	carriers.Go(func() { w.carry(t, second, first) })
	t.Cleanup(func() {
		first.Stop()
		second.Stop()
		carriers.Wait()
		first.Close()
		second.Close()
	})
	inSecond()
	return w
}

// TestTCPSuperFrames sends a TCP stream from TUN to TUN. It arrives whole, in frames far above the MTU and with
// checksums that nobody computed, but not above the size that route.Configure asks for.
func TestTCPSuperFrames(t *testing.T) {
	for _, c := range []struct {
		name, listen string
		addresses    [2]string
		kind         uint64
	}{
		{"IPv4", "10.90.0.1:7", [2]string{"10.90.0.1/24", "10.90.0.2/24"}, unix.VIRTIO_NET_HDR_GSO_TCPV4},
		{"IPv6", "[fd90::1]:7", [2]string{"fd90::1/64", "fd90::2/64"}, unix.VIRTIO_NET_HDR_GSO_TCPV6},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := make([]byte, 8<<20)
			rand.Read(content)
			received := sha256.New()
			var receiver sync.WaitGroup
			var listener net.Listener
			w := wire(t, c.addresses, func() {
				var err error
				if listener, err = net.Listen("tcp", c.listen); err != nil {
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
				address := netip.MustParseAddrPort(c.listen)
				conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(address))
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
			if w.kinds.Load()&(1<<c.kind) == 0 || w.partial.Load() == 0 {
				t.Errorf("gso_types %b, %d partial checksums: want super-frames of type %d",
					w.kinds.Load(), w.partial.Load(), c.kind)
			}
			if n := w.longest.Load(); n < 20000 || n > 60000 {
				t.Errorf("longest packet %d, want 20,000 to 60,000", n)
			}
		})
	}
}

// TestUDPSuperFrames sends with UDP_SEGMENT into the TUN: USO hands the run over as one frame.
func TestUDPSuperFrames(t *testing.T) {
	const segment, count = 1200, 20
	space.Enter(t, space.TUN)
	d := openUp(t, "10.90.0.1/24")
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
	buf := make([]byte, maxFrame)
	n, err := d.ReadFrame(buf)
	if err != nil {
		t.Fatal(err)
	}
	const udpL4 = unix.VIRTIO_NET_HDR_GSO_UDP_L4
	if want := packet.VirtioLen + 28 + segment*count; buf[1] != udpL4 || n != want {
		t.Errorf("gso_type %d, %d bytes; want %d, %d (USO needs Linux 6.2)", buf[1], n, udpL4, want)
	}
}
