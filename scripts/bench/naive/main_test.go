package main

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// pair joins two forwarders, each with a socket of datagrams in place of its TUN: what is written to one comes out of the
// other. They live as long as the process.
func pair(t *testing.T, sealed bool) (in, out int) {
	t.Helper()
	a, b := free(t), free(t)
	start := func(local, peer netip.AddrPort) int {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := &forwarder{tun: ends[0], chunk: 1472}
		if f.udp, err = connect(local, peer, f.chunk); err != nil {
			t.Fatal(err)
		}
		if sealed {
			f.seal, f.open = key(local), key(peer)
		}
		go f.outbound()
		go f.inbound()
		return ends[1]
	}
	return start(a, b), start(b, a)
}

// free is an address that nobody has.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestForward sends frames that end anywhere in a chunk: the room in one is 1472 bytes, or 1448 where it is sealed.
func TestForward(t *testing.T) {
	for name, sealed := range map[string]bool{"plain": false, "sealed": true} {
		t.Run(name, func(t *testing.T) {
			in, out := pair(t, sealed)
			frame, got := make([]byte, 60000), make([]byte, 1<<16)
			for i := range frame {
				frame[i] = byte(i * 7 >> 3)
			}
			for _, n := range []int{1, 64, 1443, 1444, 1445, 1467, 1468, 1469, 2940, 60000} {
				if _, err := unix.Write(in, frame[:n]); err != nil {
					t.Fatal(err)
				}
				m, err := unix.Read(out, got)
				if err != nil || !bytes.Equal(got[:m], frame[:n]) {
					t.Fatalf("%d bytes came out as %d: %v", n, m, err)
				}
			}
		})
	}
}

// TestGaps: a frame of which a chunk is missing or does not open is dropped, and the one after it is not.
func TestGaps(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	from := free(t)
	f := &forwarder{tun: ends[0], chunk: 100, seal: key(from), open: key(from)}
	frame := append([]byte{0, 0, 1, 0}, bytes.Repeat([]byte("frame of"), 32)...)
	chunks, _ := f.sealChunks(nil, frame, 7)
	pass := func(chunks []byte) {
		opened := make([]byte, 1000)
		f.deliver(opened[:f.openChunks(opened[:0], chunks)])
	}
	pass(chunks[100:])                                                              // the first is missing
	pass(append(bytes.Clone(chunks[:100]), chunks[200:]...))                        // one in the middle
	pass(append(append(bytes.Clone(chunks[:199]), chunks[199]^1), chunks[200:]...)) // its tag is wrong
	pass(nil)
	pass(chunks)
	got := make([]byte, 1000)
	n, err := unix.Read(ends[1], got)
	if err != nil || !bytes.Equal(got[:n], frame[lengthLen:]) {
		t.Fatalf("%d bytes came out first, %v", n, err)
	}
	if n, _, err := unix.Recvfrom(ends[1], got, unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Fatalf("%d bytes more, %v", n, err)
	}
}
