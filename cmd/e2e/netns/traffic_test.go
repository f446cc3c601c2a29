package netns

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	transfer = 20 << 20 // bytes, each way
	flows    = 40       // at once
)

// TestTraffic: what applications send arrives whole, over both families, under a policy that names it and nothing else.
func TestTraffic(t *testing.T) {
	n := newOverlay(t, 2, grant("h1", "h2", "icmp", "tcp/7000-7009", "udp/*"))
	a, b := n.Hosts[0], n.Hosts[1]
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			t.Run("TCP both ways", func(t *testing.T) { transferBothWays(t, a, b, family) })
			t.Run("UDP", func(t *testing.T) { datagrams(t, a, b, family) })
			t.Run("fragments", func(t *testing.T) {
				a.Run(t, "ping", "-c3", "-i0.05", "-W5", "-s65000", b.address(family))
			})
			t.Run("many flows", func(t *testing.T) { manyFlows(t, a, b, family) })
		})
	}
	for _, h := range n.Hosts {
		dropped := h.Status(t).Drops
		delete(dropped, "replayed") // copies: what is sent before the endpoint is known goes to every candidate
		if len(dropped) != 0 {
			t.Errorf("%s dropped %v of what is permitted", h.Name, dropped)
		}
	}
	t.Run("wrong selector", func(t *testing.T) { wrongSelector(t, a, b) })
}

// transferBothWays streams random bytes in both directions of one connection at once.
func transferBothWays(t *testing.T, a, b *Host, family int) {
	served := make(chan string, 1)
	b.listen(t, family, 7000, func(conn net.Conn) { served <- stream(conn) })
	conn := a.mustDial(t, "tcp", b.at(family, 7000))
	began := time.Now()
	got := stream(conn)
	if want := "sent and got " + fmt.Sprint(transfer); !strings.HasPrefix(got, want) {
		t.Fatal("h1: ", got)
	}
	if other := <-served; other != swapped(got) {
		t.Errorf("h1: %s\nh2: %s", got, other)
	}
	t.Logf("%d MiB each way in %v", transfer>>20, time.Since(began).Round(time.Millisecond))
}

// stream sends and receives transfer bytes at once, and tells how that went with the sums of what was sent and got.
func stream(conn net.Conn) string {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err.Error()
	}
	block := make([]byte, transfer)
	rand.Read(block)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(block)
		if err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	sum := sha256.New()
	got, err := io.Copy(sum, conn)
	if err := errors.Join(err, <-sent); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("sent and got %d %x %x", got, sha256.Sum256(block), sum.Sum(nil))
}

// swapped is what the other end of a stream tells: it got what this one sent.
func swapped(told string) string {
	f := strings.Fields(told)
	last := len(f) - 1
	f[last-1], f[last] = f[last], f[last-1]
	return strings.Join(f, " ")
}

// datagrams sends UDP of sizes around what fits one frame, up to the most there is, and waits for each to come back.
func datagrams(t *testing.T, a, b *Host, family int) {
	b.echo(t, family, 7001)
	conn := a.mustDial(t, "udp", b.at(family, 7001))
	back := make([]byte, 1<<16)
	for _, size := range []int{0, 1, 2, 100, 1371, 1372, 1373, 1391, 1392, 1393, 1452, 4000, 16000, 65000} {
		out := bytes.Repeat([]byte{byte(size)}, size)
		rand.Read(out)
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(out); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if n, err := conn.Read(back); err != nil || !bytes.Equal(back[:n], out) {
			t.Fatalf("%d bytes: %d came back, the same: %t, %v", size, n, bytes.Equal(back[:n], out), err)
		}
	}
}

// manyFlows keeps TCP connections and UDP sockets busy at once.
func manyFlows(t *testing.T, a, b *Host, family int) {
	const each = 256 << 10
	b.listen(t, family, 7002, func(conn net.Conn) {
		io.Copy(conn, conn)
		conn.Close()
	})
	b.echo(t, family, 7003)
	var done sync.WaitGroup
	for i := range flows {
		tcp, udp := a.mustDial(t, "tcp", b.at(family, 7002)), a.mustDial(t, "udp", b.at(family, 7003))
		done.Go(func() {
			if err := returned(tcp, each); err != nil {
				t.Errorf("TCP flow %d: %v", i, err)
			}
		})
		done.Go(func() {
			if err := pingPong(udp, 50); err != nil {
				t.Errorf("UDP flow %d: %v", i, err)
			}
		})
	}
	done.Wait()
}

// returned sends bytes to an echo and checks that they come back.
func returned(conn net.Conn, size int) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	out := make([]byte, size)
	rand.Read(out)
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(out)
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	back, err := io.ReadAll(conn)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(back, out) {
		return fmt.Errorf("%d of %d bytes came back, or others", len(back), len(out))
	}
	return nil
}

// pingPong sends datagrams to an echo, one after the other.
func pingPong(conn net.Conn, times int) error {
	back := make([]byte, 1500)
	for i := range times {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		out := fmt.Sprint("datagram ", i)
		if _, err := conn.Write([]byte(out)); err != nil {
			return err
		}
		if n, err := conn.Read(back); err != nil || string(back[:n]) != out {
			return fmt.Errorf("datagram %d: got %q, %w", i, back[:n], err)
		}
	}
	return nil
}

// wrongSelector: under a live session, what its selectors do not have is refused where it starts, at either end. A
// grant is one way: that h1 may reach a port of h2 does not let h2 reach the same port of h1.
func wrongSelector(t *testing.T, a, b *Host) {
	if a.Sending(t) == nil || b.Sending(t) == nil {
		t.Fatal("there is no session")
	}
	checkTCP(t, a, b.at(4, 7010), syscall.EHOSTUNREACH)
	checkTCP(t, a, b.at(6, 7010), syscall.EACCES)
	checkTCP(t, b, a.at(4, 7000), syscall.EHOSTUNREACH)
	checkTCP(t, b, a.at(6, 7000), syscall.EACCES)
	for _, h := range []*Host{a, b} {
		if denied := h.Status(t).Drops["denied"]; denied < 2 {
			t.Errorf("%s counts %d denied packets", h.Name, denied)
		}
	}
}
