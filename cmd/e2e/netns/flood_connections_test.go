package netns

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kdcPort    = 7600
	prefaceLen = 16 // package control, "Channel"
	openingLen = 64 // the preface, and handshake message 1 behind it
)

// attacker opens TCP connections to the KDC out of one host, from one address or from many.
type attacker struct {
	host    *Host
	sources []netip.Addr
	next    atomic.Uint32
}

// newAttacker gives a host so many addresses besides its own.
func newAttacker(t *testing.T, h *Host, more int) *attacker {
	t.Helper()
	a := &attacker{host: h, sources: []netip.Addr{netip.MustParseAddr("10.77.0.13")}}
	for i := range more {
		source := netip.AddrFrom4([4]byte{10, 77, 0, byte(100 + i)})
		h.Run(t, "ip", "addr", "add", source.String()+"/24", "dev", "eth0")
		t.Cleanup(func() { h.Run(t, "ip", "addr", "del", source.String()+"/24", "dev", "eth0") })
		a.sources = append(a.sources, source)
	}
	return a
}

// attack runs n of the attacker's threads, each of them in the host's namespace, until all of them have returned.
func (a *attacker) attack(t *testing.T, n int, each func(i int, r *rand.Rand)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { a.host.in(t, func() { each(i, rand.New(rand.NewPCG(1, uint64(i)))) }) })
	}
	all.Wait()
}

// dial is on the calling thread, which is in the namespace.
func (a *attacker) dial() (*net.TCPConn, error) {
	source := a.sources[int(a.next.Add(1))%len(a.sources)]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "attacker")
	defer f.Close()
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no port waits after it
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2})
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()}); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: kdcPort, Addr: [4]byte{10, 77, 0, 1}}); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// malformed says something to the KDC that no SSM says. A kind may go on for a moment before it gives up.
func malformed(r *rand.Rand, conn net.Conn, openings *overheard) {
	conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
	opening := openings.pick(r)
	switch r.IntN(10) {
	case 0:
		conn.Write(junk(r, 1+r.IntN(3000)))
	case 1: // the right preface, and a key id that there is not
		copy(opening[8:], junk(r, openingLen-8))
		conn.Write(opening)
	case 2:
		conn.Write(opening[:r.IntN(openingLen)])
		return // at once
	case 3: // a handshake that was recorded, and records of giant lengths behind it
		conn.Write(append(opening, bytes.Repeat([]byte{0xff}, 10_000)...))
	case 4: // a valid preface, then silence
		conn.Write(opening[:prefaceLen])
	case 5:
		opening[r.IntN(openingLen)] ^= 1 << r.IntN(8)
		conn.Write(opening)
	case 6: // what was recorded, as it was
		conn.Write(opening)
	case 7:
		tls.Client(conn, &tls.Config{ServerName: "kdc.example"}).HandshakeContext(context.Background())
	case 8:
		fmt.Fprintf(conn, "POST /v1/peers HTTP/1.1\r\nHost: kdc\r\nContent-Length: %d\r\n\r\n", uint64(1)<<60)
	case 9:
		conn.(*net.TCPConn).CloseWrite()
	}
	if r.IntN(4) > 0 {
		io.Copy(io.Discard, conn) // until the KDC hangs up
	}
}

// floodMalformed makes so many connections of all kinds, and goes on.
func floodMalformed(t *testing.T, a *attacker, openings *overheard, count int) func(context.Context, func()) {
	return func(ctx context.Context, done func()) {
		var made atomic.Int64
		a.attack(t, 16, func(_ int, r *rand.Rand) {
			for ctx.Err() == nil {
				conn, err := a.dial()
				if err != nil {
					continue // the KDC's host is busy with the others
				}
				malformed(r, conn, openings)
				conn.Close()
				if made.Add(1) >= int64(count) {
					done()
				}
			}
		})
		t.Logf("%d malformed connections", made.Load())
	}
}

// floodForged sends handshakes under key ids that there are, as fast as it can.
func floodForged(t *testing.T, a *attacker, openings *overheard, count int) func(context.Context, func()) {
	return func(ctx context.Context, done func()) {
		var made atomic.Int64
		began := time.Now()
		a.attack(t, 8, func(_ int, r *rand.Rand) {
			answer := make([]byte, 1)
			for ctx.Err() == nil {
				conn, err := a.dial()
				if err != nil {
					continue
				}
				conn.SetDeadline(time.Now().Add(time.Second))
				opening := openings.pick(r)
				copy(opening[prefaceLen:], junk(r, openingLen-prefaceLen))
				conn.Write(opening)
				if n, _ := conn.Read(answer); n > 0 {
					t.Error("the KDC answers a forged handshake")
				}
				conn.Close()
				if made.Add(1) >= int64(count) {
					done()
				}
			}
		})
		t.Logf("%d forged handshakes, %.0f a second", made.Load(), float64(made.Load())/time.Since(began).Seconds())
	}
}

// floodSlow keeps so many connections that say nothing, and as many that say a byte a second, and opens another for each
// that the KDC has closed.
func floodSlow(t *testing.T, a *attacker, openings *overheard, each int) func(context.Context, func()) {
	return func(ctx context.Context, done func()) {
		var opened atomic.Int64
		var all sync.WaitGroup
		a.attack(t, 4, func(_ int, r *rand.Rand) { // it only opens them; others hold them
			open := make(chan struct{}, 2*each/4)
			for i := 0; ctx.Err() == nil; i++ {
				select {
				case open <- struct{}{}:
				case <-ctx.Done():
					return
				}
				conn, err := a.dial()
				if err != nil {
					<-open
					continue
				}
				said := openings.pick(r)
				if i%2 == 0 {
					said = nil
				}
				all.Go(func() {
					defer func() { <-open }()
					hold(ctx, conn, said)
				})
				if opened.Add(1) >= int64(2*each) {
					done()
				}
			}
		})
		all.Wait()
		t.Logf("%d slow connections opened", opened.Load())
	}
}

// hold keeps a connection until the KDC closes it, saying a byte a second of what there is to say.
func hold(ctx context.Context, conn net.Conn, said []byte) {
	defer conn.Close()
	for i := 0; ctx.Err() == nil; i++ {
		if i < len(said) {
			if _, err := conn.Write(said[i : i+1]); err != nil {
				return
			}
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := conn.Read(make([]byte, 64)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// syn is the first segment of a TCP connection (RFC 9293), in an IPv4 packet.
func syn(src, dst netip.AddrPort, sequence uint32) []byte {
	b := datagram(src, dst, make([]byte, 12)) // room for 20 bytes of TCP
	b[9] = syscall.IPPROTO_TCP
	sumHeader(b)
	binary.BigEndian.PutUint32(b[24:], sequence)
	copy(b[28:], []byte{0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0})
	sum := uint32(syscall.IPPROTO_TCP + 20) // and the pseudo-header
	for i := 12; i < 40; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[36:], ^uint16(sum+sum>>16))
	return b
}

// floodSYN begins connections from addresses of the network that nobody has, and leaves it at that.
func floodSYN(t *testing.T, s *floodScene, count int) func(context.Context, func()) {
	w := newWire(t, s.c, s.KDC.Host)
	to := netip.MustParseAddrPort("10.77.0.1:7600")
	return func(ctx context.Context, done func()) {
		r := rand.New(rand.NewPCG(1, 3))
		sent := paced(ctx, floodRate, count, done, func() {
			from := netip.AddrFrom4([4]byte{10, 77, 0, byte(20 + r.IntN(60))})
			w.send(syn(netip.AddrPortFrom(from, uint16(1024+r.IntN(60000))), to, r.Uint32()))
		})
		t.Logf("%d SYNs", sent)
	}
}

// TestConnectionFlood: whatever comes to the KDC's port, and however much of it, SSMs are welcomed and have their sessions,
// also those behind the attacker's own address.
func TestConnectionFlood(t *testing.T) {
	s := newFloodScene(t)
	openings := overhear(t, s.Net, s.c, unix.IPPROTO_TCP, kdcPort, func(b []byte) bool {
		return len(b) == openingLen && bytes.HasPrefix(b, []byte("SSMN"))
	})
	s.c.SSM(t, "down")
	s.c.SSM(t, "up")
	openings.some(t, "the opening of a handshake")
	const manyAddresses = 100
	for _, f := range []struct {
		name      string
		addresses int
		flood     func(*testing.T, *attacker) func(context.Context, func())
	}{
		{"malformed", 0, func(t *testing.T, a *attacker) func(context.Context, func()) {
			return floodMalformed(t, a, openings, times(1000, 10_000))
		}},
		{"forged", 0, func(t *testing.T, a *attacker) func(context.Context, func()) {
			return floodForged(t, a, openings, times(2000, 50_000))
		}},
		{"forged from many", manyAddresses, func(t *testing.T, a *attacker) func(context.Context, func()) {
			return floodForged(t, a, openings, times(2000, 50_000))
		}},
		{"slow", 0, func(t *testing.T, a *attacker) func(context.Context, func()) {
			return floodSlow(t, a, openings, times(300, 500))
		}},
		{"slow from many", manyAddresses, func(t *testing.T, a *attacker) func(context.Context, func()) {
			return floodSlow(t, a, openings, times(300, 500))
		}},
		{"SYNs", 0, func(t *testing.T, _ *attacker) func(context.Context, func()) {
			return floodSYN(t, s, times(20_000, 200_000))
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			s.under(t, f.name, f.flood(t, newAttacker(t, s.c, f.addresses)))
		})
	}
}
