package netns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// train is a line of numbered datagrams from one host to another, one way.
type train struct {
	from, to *Host
	conn     net.Conn
	stop     chan struct{}
	done     sync.WaitGroup

	mu      sync.Mutex
	paused  bool
	sent    int // numbered from 0
	arrived map[int]time.Time
	copies  int // that arrived again
	last    time.Time
}

// carriageSize is the payload of one datagram.
const carriageSize = 256

// startTrain sends some datagrams each time every has passed, and waits until the first have arrived.
func startTrain(t *testing.T, from, to *Host, port, some int, every time.Duration) *train {
	t.Helper()
	far := to.packets(t, 4, port)
	roomy(t, far)
	r := &train{from: from, to: to, conn: from.mustDial(t, "udp", to.at(4, port)), stop: make(chan struct{}),
		arrived: map[int]time.Time{}}
	r.done.Go(func() { r.send(some, every) })
	go r.receive(far) // ends when the test closes the socket
	t.Cleanup(r.end)
	r.runs(t, r.number())
	return r
}

// roomy gives a receiver a buffer that no stall of the test overruns, so that what is lost is not lost here.
func roomy(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) })
	if err := errors.Join(err, set); err != nil {
		t.Fatal(err)
	}
}

func (r *train) send(some int, every time.Duration) {
	pulse := time.NewTicker(every)
	defer pulse.Stop()
	b := make([]byte, carriageSize)
	for {
		select {
		case <-r.stop:
			return
		case <-pulse.C:
		}
		for range some {
			if r.next(b) {
				r.conn.Write(b) // an error is that of an earlier one
			}
		}
	}
}

// next numbers a datagram, if one is to be sent.
func (r *train) next(b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused {
		return false
	}
	binary.BigEndian.PutUint64(b, uint64(r.sent))
	r.sent++
	return true
}

// pause stops the sending, or lets it go on.
func (r *train) pause(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = on
}

func (r *train) receive(far *net.UDPConn) {
	b := make([]byte, 1500)
	for {
		n, err := far.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != carriageSize {
			continue
		}
		now, number := time.Now(), int(binary.BigEndian.Uint64(b))
		r.mu.Lock()
		if _, again := r.arrived[number]; again {
			r.copies++
		}
		r.arrived[number], r.last = now, now
		r.mu.Unlock()
	}
}

// end stops sending. It may be called twice.
func (r *train) end() {
	r.mu.Lock()
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	r.mu.Unlock()
	r.done.Wait()
}

// number is that of the next datagram.
func (r *train) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

// newest is when the last datagram arrived.
func (r *train) newest() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// runs waits until some datagrams of this number or later ones have arrived, and gives when the first did.
func (r *train) runs(t *testing.T, number int) (first time.Time) {
	t.Helper()
	const enough = 10
	eventually(t, patience, "datagrams arrive from "+r.from.Name, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		arrived := 0
		for n := number; n < r.sent; n++ {
			at, ok := r.arrived[n]
			if ok && (arrived == 0 || at.Before(first)) {
				first = at
			}
			if ok {
				arrived++
			}
		}
		if arrived < enough {
			return fmt.Errorf("%d from number %d on", arrived, number)
		}
		return nil
	})
	return first
}

// missing gives how many of the datagrams with these numbers have not arrived once time enough has passed.
func (r *train) missing(from, to int) int {
	deadline := time.Now().Add(5 * time.Second)
	for {
		missing := 0
		r.mu.Lock()
		for n := from; n < to; n++ {
			if _, ok := r.arrived[n]; !ok {
				missing++
			}
		}
		r.mu.Unlock()
		if missing == 0 || time.Now().After(deadline) {
			return missing
		}
		time.Sleep(pollPause)
	}
}

// saturation is a TCP connection that an echo fills both ways, as fast as it goes. Every byte is compared.
type saturation struct {
	conn  net.Conn
	stop  chan struct{}
	tasks sync.WaitGroup
	sent  int // bytes, once ended, as are the others
	got   int
	errs  [2]error
}

const saturationBlock = 64 << 10

// saturate starts the connection from a to b, and checks it at the end of the test.
func saturate(t *testing.T, a, b *Host, port int) *saturation {
	t.Helper()
	b.listen(t, 4, port, func(conn net.Conn) {
		io.Copy(conn, conn)
		conn.Close()
	})
	s := &saturation{conn: a.mustDial(t, "tcp", b.at(4, port)), stop: make(chan struct{})}
	pattern := make([]byte, saturationBlock)
	for i := range pattern {
		pattern[i] = byte(rand.Uint32())
	}
	s.tasks.Go(func() { s.errs[0] = s.write(bytes.Clone(pattern)) })
	s.tasks.Go(func() { s.errs[1] = s.read(pattern) })
	return s
}

// write sends the pattern over and over, each time with its number in front.
func (s *saturation) write(block []byte) error {
	for number := uint64(0); ; number++ {
		select {
		case <-s.stop:
			return s.conn.(*net.TCPConn).CloseWrite()
		default:
		}
		binary.BigEndian.PutUint64(block, number)
		if err := s.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := s.conn.Write(block); err != nil {
			return err
		}
		s.sent += len(block)
	}
}

func (s *saturation) read(want []byte) error {
	got := make([]byte, len(want))
	for number := uint64(0); ; number++ {
		binary.BigEndian.PutUint64(want, number)
		if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := io.ReadFull(s.conn, got); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("other bytes came back in block %d", number)
		}
		s.got += len(got)
	}
}

// end stops sending and checks that all came back. It gives how many bytes went each way.
func (s *saturation) end(t *testing.T) int {
	t.Helper()
	close(s.stop)
	s.tasks.Wait()
	if err := errors.Join(s.errs[:]...); err != nil || s.got != s.sent {
		t.Errorf("TCP: sent %d bytes, %d came back: %v", s.sent, s.got, err)
	}
	return s.got
}

// drops are an SSM's counters, without the copies of what goes to every candidate.
func (h *Host) drops(t *testing.T) map[string]uint64 {
	t.Helper()
	d := h.Status(t).Drops
	delete(d, "replayed")
	return d
}

// droppedNothing checks that an SSM has dropped no more than it had before.
func (h *Host) droppedNothing(t *testing.T, before map[string]uint64) {
	t.Helper()
	if now := h.drops(t); !maps.Equal(now, before) {
		t.Errorf("%s dropped %v, before it %v", h.Name, now, before)
	}
}

// overruns are what the host's kernel has dropped around the SSM, where its queues overran: of packets into the interface,
// and of datagrams from the network.
func (h *Host) overruns(t *testing.T) (tun, socket int) {
	t.Helper()
	fmt.Sscan(h.Run(t, "cat", "/sys/class/net/tun0/statistics/tx_dropped"), &tun)
	for line := range strings.Lines(h.Run(t, "cat", "/proc/net/udp", "/proc/net/udp6")) {
		f := strings.Fields(line) // sl local_address ... drops (proc_net(5))
		if port := fmt.Sprintf(":%04X", framePort); len(f) > 12 && strings.HasSuffix(f[1], port) {
			fmt.Sscan(f[len(f)-1], &socket)
		}
	}
	return tun, socket
}

// load is what two hosts bear at once: a connection that fills the tunnel, and numbered datagrams both ways beside it, as
// many as arrive whole while nothing else happens.
type load struct {
	hosts  []*Host
	trains []*train
	tcp    *saturation
	began  time.Time
	drops  []map[string]uint64
}

// startLoad finds the rate of the datagrams at which the machine loses none of them by itself.
func startLoad(t *testing.T, n *Net) *load {
	t.Helper()
	a, b := n.Hosts[0], n.Hosts[1]
	for _, h := range n.Hosts {
		// What a machine with other work does not let the SSM read in time waits, so that it is not lost before it.
		h.Run(t, "ip", "link", "set", "tun0", "txqueuelen", "20000")
	}
	l := &load{hosts: n.Hosts, began: time.Now(), tcp: saturate(t, a, b, 7002)}
	for port, some := 7010, 4; ; port, some = port+2, some/2 {
		l.trains = []*train{startTrain(t, a, b, port, some, time.Millisecond), startTrain(t, b, a, port+1, some, time.Millisecond)}
		calm := time.Duration(times(1, 10)) * time.Second
		until := time.Now().Add(calm)
		eventually(t, calm+started, "some time passes", func() error { return notYet(until) })
		lost := 0
		for _, r := range l.trains {
			lost += r.missing(0, r.number())
		}
		t.Logf("%d datagrams a second each way: %d lost without a rekey", some*1000, lost)
		if lost == 0 {
			break
		}
		if some == 1 {
			t.Fatal("the machine loses datagrams of the lowest rate")
		}
		for _, r := range l.trains {
			r.end()
		}
	}
	for _, h := range n.Hosts {
		l.drops = append(l.drops, h.drops(t))
	}
	return l
}

// notYet is an error until the time has come.
func notYet(until time.Time) error {
	if left := time.Until(until); left > 0 {
		return fmt.Errorf("%v are left", left)
	}
	return nil
}

// lostNothing ends the load and checks that all that was sent has arrived, once, and that no SSM has dropped anything. What
// a queue of the kernel has overrun with, on a machine that gave an SSM no time to read it, is not the SSM's loss.
func (l *load) lostNothing(t *testing.T) {
	t.Helper()
	for _, r := range l.trains {
		r.end()
		lost := r.missing(0, r.number())
		tun, _ := r.from.overruns(t)
		_, socket := r.to.overruns(t)
		t.Logf("%s to %s: %d datagrams, %d lost; kernels dropped %d into the tunnel, %d out of the network", r.from.Name,
			r.to.Name, r.number(), lost, tun, socket)
		if lost > tun+socket || r.copies > 0 {
			t.Errorf("%s to %s: %d of %d datagrams were lost, %d came twice", r.from.Name, r.to.Name, lost, r.number(), r.copies)
		}
	}
	bytes, lasted := l.tcp.end(t), time.Since(l.began)
	t.Logf("TCP: %d MiB each way, %.2f Gb/s", bytes>>20, float64(bytes)*8/1e9/lasted.Seconds())
	for i, h := range l.hosts {
		h.droppedNothing(t, l.drops[i])
	}
}

// spread tells the median and the worst of some times.
func spread(took []time.Duration) string {
	sorted := slices.Sorted(slices.Values(took))
	return fmt.Sprintf("median %v, worst %v", sorted[len(sorted)/2].Round(time.Millisecond),
		sorted[len(sorted)-1].Round(time.Millisecond))
}
