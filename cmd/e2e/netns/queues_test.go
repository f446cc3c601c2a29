package netns

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"ssmnet/packet"
)

// TestQueues: with several queues on either side, however many each has, every flow stays in order under load, and flows
// take lanes of their own.
func TestQueues(t *testing.T) {
	for _, queues := range [][2]int{{2, 2}, {4, 4}, {8, 8}, {1, 8}, {8, 2}} {
		t.Run(fmt.Sprint(queues[0], " and ", queues[1]), func(t *testing.T) {
			n := newOverlay(t, 2, grant("h1", "h2", "icmp", "tcp/7000-7009", "udp/*"))
			a, b := n.Hosts[0], n.Hosts[1]
			for i, h := range n.Hosts {
				h.SSM(t, "down")
				h.SSM(t, "up", "--queues", strconv.Itoa(queues[i]))
			}
			for _, h := range []*Host{n.Bridge, a, b} {
				h.steady(t)
			}
			inOrder(t, a, b)
			manyFlows(t, a, b, 4)
			capture := startCapture(t, b, "eth0", filepath.Join(n.dir, "lanes.pcap"))
			for i := range 32 {
				b.echo(t, 4, 7200+i)
				if err := pingPong(a.mustDial(t, "udp", b.at(4, 7200+i)), 2); err != nil {
					t.Fatal(err)
				}
			}
			const end = "the last"
			lanes := lanesOf(capture.end(t, end, func() { a.pingPattern(t, "10.77.0.12", end) }), "10.77.0.11", "fd77::11")
			if len(lanes) < min(2, queues[0]) || slices.Max(lanes) >= queues[0] {
				t.Errorf("32 flows through %d queues go by the lanes %v", queues[0], lanes)
			}
		})
	}
}

// steady has one CPU take what the host's Ethernet interfaces receive. A veth leaves that to the sender's, and a sender that
// is moved to another CPU overtakes itself where the first is busy.
func (h *Host) steady(t *testing.T) {
	t.Helper()
	h.Run(t, "sh", "-c", `for i in /sys/class/net/*/queues/rx-*/rps_cpus; do case $i in */tun0/*|*/lo/*) ;; *) echo 1 >"$i" || exit ;; esac; done`)
}

// inOrder has flows of numbered datagrams as fast as they go, from a to b and back, beside a TCP stream, and wants none to
// overtake another.
func inOrder(t *testing.T, a, b *Host) {
	const flows, lasts = 12, 1500 * time.Millisecond
	b.listen(t, 4, 7001, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	load := a.mustDial(t, "tcp", b.at(4, 7001))
	go func() {
		for block := make([]byte, 1<<20); ; {
			if _, err := load.Write(block); err != nil {
				return // closed
			}
		}
	}()
	var senders, receivers sync.WaitGroup
	for i := range flows {
		b.echo(t, 4, 7100+i)
		conn := a.mustDial(t, "udp", b.at(4, 7100+i))
		until := time.Now().Add(lasts)
		senders.Go(func() {
			for number := uint64(1); time.Now().Before(until); number++ {
				conn.Write(binary.BigEndian.AppendUint64(nil, number)) // an error is that of an earlier one
			}
		})
		receivers.Go(func() {
			got, last, datagram := 0, uint64(0), make([]byte, 64)
			for conn.SetReadDeadline(until.Add(patience/10)) == nil {
				n, err := conn.Read(datagram)
				if err != nil && (time.Now().After(until) || got > 0 && n == 0) {
					break
				}
				number := binary.BigEndian.Uint64(datagram)
				if n == 8 && number < last {
					t.Errorf("flow %d: %d comes behind %d", i, number, last)
				}
				got, last = got+1, number
			}
			if got < 10 {
				t.Errorf("flow %d: %d datagrams come back", i, got)
			}
		})
	}
	senders.Wait()
	load.Close()
	receivers.Wait()
}

// lanesOf are the lanes of the data frames from a host's addresses.
func lanesOf(all []capturedPacket, addresses ...string) (lanes []int) {
	for _, p := range all {
		f, err := packet.ParseFrame(p.payload)
		if err != nil || f.Type != packet.Data || p.src.Port() != framePort || !slices.Contains(addresses, p.src.Addr().String()) {
			continue
		}
		if !slices.Contains(lanes, int(f.Lane)) {
			lanes = append(lanes, int(f.Lane))
		}
	}
	return lanes
}
