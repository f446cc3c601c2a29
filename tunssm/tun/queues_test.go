package tun

import (
	"errors"
	"fmt"
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
