package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
)

// TestQueues: the kernel's packets of a flow come by the queue that those of the other direction were written to. The
// interface lives as long as one of its queues.
func TestQueues(t *testing.T) {
	for _, count := range []int{1, 2, 4, 8} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			space.Enter(t, space.TUN)
			queues, err := Open("tun0", count)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range queues {
				configure(t, q, 1420, "10.90.0.1/24")
			}
			link := space.Link(t, "tun0").(*netlink.Tuntap)
			if len(queues) != count || (link.Flags&netlink.TUNTAP_MULTI_QUEUE != 0) != (count > 1) {
				t.Errorf("%d queues, flags %x", len(queues), link.Flags)
			}
			for i, q := range queues {
				request := echo(fmt.Sprintf("10.90.0.%d", 10+i), "10.90.0.1", 1)
				for again := range 3 {
					if err := q.WriteFrame(request); err != nil {
						t.Fatal(err)
					}
					// The first reply leaves before the kernel has noted where its request came from.
					if by := replyAt(t, queues); again > 0 && by != i {
						t.Errorf("asked by queue %d, answered by %d", i, by)
					}
				}
			}
			if _, err := Open("tun0", count); !errors.Is(err, ErrTaken) {
				t.Errorf("opened again: %v", err)
			}
			for _, q := range queues {
				if _, err := netlink.LinkByName("tun0"); err != nil {
					t.Errorf("gone before its last queue: %v", err)
				}
				q.Stop()
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := netlink.LinkByName("tun0"); !errors.As(err, &netlink.LinkNotFoundError{}) {
				t.Errorf("there without a queue: %v", err)
			}
		})
	}
}

// replyAt gives the queue that the one reply has come by.
func replyAt(t *testing.T, queues []*Queue) (at int) {
	t.Helper()
	buf, found := make([]byte, maxFrame), -1
	for i, q := range queues {
		n, err := q.TryReadFrame(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && (found >= 0 || !isReply(buf[:n], 1)) {
			t.Fatalf("read %x, not the one reply", buf[:n])
		}
		if n > 0 {
			found = i
		}
	}
	if found < 0 {
		t.Fatal("no reply")
	}
	return found
}

// TestTooManyQueues: where the kernel refuses one, none is left.
func TestTooManyQueues(t *testing.T) {
	space.Enter(t, space.TUN)
	before := space.Descriptors(t)
	if _, err := Open("tun0", 1000); err == nil {
		t.Error("no refusal")
	}
	if after := space.Descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	if _, err := netlink.LinkByName("tun0"); !errors.As(err, &netlink.LinkNotFoundError{}) {
		t.Errorf("the interface is there: %v", err)
	}
}

// TestFlowsInOrder: with several queues, whose carriers go side by side, the packets of each flow still arrive in order, in
// both directions.
func TestFlowsInOrder(t *testing.T) {
	const flows, window, windows = 16, 8, 100 // so few under way at once that no queue is ever full
	for _, count := range []int{2, 4, 8} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			var servers [flows]net.PacketConn
			var echoes, clients sync.WaitGroup
			w := wire(t, count, 1420, [2]string{"10.90.0.1/24", "10.90.0.2/24"}, func() {
				for i := range servers {
					var err error
					if servers[i], err = net.ListenPacket("udp4", "10.90.0.1:0"); err != nil {
						t.Fatal(err)
					}
					echoes.Go(func() { echoInOrder(t, servers[i]) })
				}
			}, func() {
				for _, s := range servers {
					conn, err := net.Dial("udp4", s.LocalAddr().String())
					if err != nil {
						t.Fatal(err)
					}
					clients.Go(func() {
						defer conn.Close()
						askInOrder(t, conn, window, windows)
					})
				}
				clients.Wait()
				for _, s := range servers {
					s.Close()
				}
				echoes.Wait()
			})
			if n := w.busy.Load(); n < 4 || n > 2*int64(count) {
				t.Errorf("all went through %d queues at both ends", n)
			}
		})
	}
}

// echoInOrder sends back what comes, which is numbered, until the socket is closed.
func echoInOrder(t *testing.T, c net.PacketConn) {
	b := make([]byte, 100)
	for next := uint32(0); ; next++ {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if got := binary.BigEndian.Uint32(b); got != next {
			t.Errorf("%s has packet %d, want %d", c.LocalAddr(), got, next)
		}
		if _, err := c.WriteTo(b[:n], from); err != nil {
			t.Error(err)
		}
	}
}

// askInOrder sends numbered packets, a window at a time, and awaits each again.
func askInOrder(t *testing.T, c net.Conn, window, windows int) {
	b := make([]byte, 100)
	for first := range windows {
		for i := range window {
			binary.BigEndian.PutUint32(b, uint32(first*window+i))
			if _, err := c.Write(b); err != nil {
				t.Error(err)
				return
			}
		}
		for i := range window {
			if _, err := c.Read(b); err != nil {
				t.Error(err)
				return
			}
			if got, want := binary.BigEndian.Uint32(b), uint32(first*window+i); got != want {
				t.Errorf("%s has packet %d again, want %d", c.LocalAddr(), got, want)
			}
		}
	}
}
