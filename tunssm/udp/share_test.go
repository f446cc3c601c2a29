package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet"
)

const lanes = 8

// laneFrames makes a run of frames of one lane, numbered from a first number.
func laneFrames(lane byte, first, count, segment int) []byte {
	b := make([]byte, count*segment)
	for i := range count {
		frame := b[i*segment:]
		frame[packet.LaneOffset], frame[4], frame[5] = lane, byte((first+i)>>8), byte(first+i)
	}
	return b
}

// TestLanes: each lane comes to its socket, in order, from whichever socket of several senders, in both families; and what is
// too short to have a lane to the first.
func TestLanes(t *testing.T) {
	const segment, count, runs = 1400, 20, 25
	for _, n := range []int{2, 4, 8} {
		for _, host := range []string{"10.77.0.2", "fd77::2"} {
			t.Run(fmt.Sprintf("%d/%s", n, host), func(t *testing.T) {
				inFirst, inSecond := veth(t)
				inSecond()
				to := shareOn(t, 0, n)
				inFirst()
				from := shareOn(t, 0, 2)
				at := netip.AddrPortFrom(netip.MustParseAddr(host), to[0].LocalPort())
				var tasks sync.WaitGroup
				var arrived [lanes]chan int // after each run of a lane: nothing overflows
				for lane := range arrived {
					arrived[lane] = make(chan int, runs)
				}
				for i, c := range to {
					tasks.Go(func() { receiveLanes(t, c, i, n, lanes/n*count*runs, count, &arrived) })
				}
				for lane := range byte(lanes) {
					c := from[lane%2]
					tasks.Go(func() {
						for run := range runs {
							if err := send(c, datagrams(laneFrames(lane, run*count, count, segment), segment, at)); err != nil {
								t.Error(err)
							}
							<-arrived[lane]
						}
					})
				}
				tasks.Wait()
				for _, length := range []int{0, 1, packet.LaneOffset} {
					if err := send(from[0], datagrams(make([]byte, length), 0, at)); err != nil {
						t.Fatal(err)
					}
					if got, _ := receiveOne(t, to[0]); len(got) != length {
						t.Errorf("received %d bytes, want %d", len(got), length)
					}
				}
			})
		}
	}
}

// receiveLanes receives so many frames, of the lanes of socket i of n alone, each in order, and tells when a run of a lane is
// complete.
func receiveLanes(t *testing.T, c *Conn, i, n, total, run int, arrived *[lanes]chan int) {
	var next [lanes]int
	for total > 0 {
		batch, err := c.Receive()
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range batch {
			for b := d.Pieces[0]; len(b) > 0; b = b[min(d.Segment, len(b)):] {
				lane, number := int(b[packet.LaneOffset]), int(b[4])<<8|int(b[5])
				if lane%n != i || number != next[lane] {
					t.Errorf("socket %d of %d: frame %d of lane %d, want %d", i, n, number, lane, next[lane])
				}
				if next[lane] = number + 1; next[lane]%run == 0 {
					arrived[lane] <- number
				}
				total--
			}
		}
	}
}

// TestSharedPortTaken: a port is shared among ours alone: it is found out that another shares it, who finds it taken, too.
func TestSharedPortTaken(t *testing.T) {
	space.Enter(t)
	ours := shareOn(t, 0, 4)
	if _, err := Listen(ours[0].LocalPort(), 4); !errors.Is(err, ErrTaken) {
		t.Errorf("shared with ourselves: %v, want ErrTaken", err)
	}
	before := space.Descriptors(t)
	space.Refuse(t, unix.ENOPROTOOPT, unix.SYS_SETSOCKOPT, map[int]uint32{1: unix.SOL_SOCKET, 2: unix.SO_ATTACH_REUSEPORT_CBPF})
	if _, err := Listen(0, 4); !errors.Is(err, unix.ENOPROTOOPT) {
		t.Errorf("a kernel that does not steer: %v", err)
	}
	if after := space.Descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	self := netip.AddrPortFrom(netip.IPv6Loopback(), ours[0].LocalPort())
	for i, c := range ours {
		if four, six := option(t, c, unix.IPPROTO_IP, unix.IP_TTL), option(t, c, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS); four != 64-i || six != four {
			t.Errorf("socket %d sends with a hop limit of %d and %d", i, four, six)
		}
		if err := send(c, datagrams(laneFrames(byte(i), 0, 1, 100), 0, self)); err != nil {
			t.Fatal(err)
		}
		if got, src := receiveOne(t, c); len(got) != 100 || src != self {
			t.Errorf("received %d bytes from %s", len(got), src)
		}
	}
	for _, c := range ours {
		c.Close()
	}
	if again, err := Listen(ours[0].LocalPort(), 1); err != nil {
		t.Errorf("closed: %v", err)
	} else {
		again[0].Close()
	}
}

// TestJoinedLanes: the kernel joins what comes from one port, and would take frames of several lanes to the socket of the
// first, but for their hop limits. The two lanes are one socket's here, since a veth keeps sockets apart by itself, as no wire
// does.
func TestJoinedLanes(t *testing.T) {
	space.Root(t)
	const count, burst = 200, 5
	for _, host := range []string{"10.77.0.2", "fd77::2"} {
		for _, apart := range []bool{false, true} {
			inFirst, inSecond := veth(t)
			inSecond()
			hold := "mount -t sysfs none /mnt && cd /mnt/class/net/eth0 && echo 200000000 >gro_flush_timeout"
			space.Run(t, "unshare", "-m", "sh", "-c", "ethtool -K eth0 gro on && "+hold)
			to := shareOn(t, 0, 2)
			inFirst()
			space.Run(t, "ethtool", "-K", "eth0", "gso", "off", "tso", "off", "tx-udp-segmentation", "off")
			from := listenOn(t, 0)
			at := netip.AddrPortFrom(netip.MustParseAddr(host), to[0].LocalPort())
			for i := range count {
				lane := i / burst % 2
				if apart && i%burst == 0 && i > 0 {
					if err := from.apart(2*lane - 1); err != nil {
						t.Fatal(err)
					}
				}
				if err := send(from, datagrams(laneFrames(byte(lane), i, 1, 1000), 0, at)); err != nil {
					t.Fatal(err)
				}
			}
			strayed := make(chan int)
			var left atomic.Int64
			left.Store(count)
			for i, c := range to {
				go func() { strayed <- strays(c, byte(i), &left, to) }()
			}
			if n := <-strayed + <-strayed; (n == 0) != apart {
				t.Errorf("%s, apart %v: %d of %d frames came to the other lane's socket", host, apart, n, count)
			}
		}
	}
}

// strays receives until nothing is left for either socket, and counts the frames that are not of the lane.
func strays(c *Conn, lane byte, left *atomic.Int64, all []*Conn) (n int) {
	for {
		batch, err := c.Receive()
		if err != nil {
			return n
		}
		for _, d := range batch {
			for b := d.Pieces[0]; len(b) > 0; b = b[min(d.Segment, len(b)):] {
				if b[packet.LaneOffset] != lane {
					n++
				}
				left.Add(-1)
			}
		}
		if left.Load() == 0 {
			for _, c := range all {
				c.Stop()
			}
		}
	}
}
