package netns

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/relay"
	"ssmnet/packet"
)

// Over such a network, with all that is lost and sent again, one session in so many may take longer than setupWithin to be
// set up: one in a thousand, and more where the machine may be loaded.
const setupWithin = 5 * time.Second

var oneLateIn = times(5, 1000)

// What the relays do to both ways. Corrupted frames reach the SSM; corrupted segments of the control channel are TCP's
// affair, as on any network, which makes them lost too.
var (
	badFrames = relay.Settings{Loss: 0.3, Reorder: 0.25, ReorderBy: 3 * time.Millisecond, Duplicate: 0.2, Corrupt: 0.1,
		Mend: true}
	badControl = relay.Settings{Loss: 0.3, Reorder: 0.25, ReorderBy: 3 * time.Millisecond, Duplicate: 0.2, Corrupt: 0.1}
)

// spare is what the kernel's TCP is spared where it cannot be made to go on through such losses (before Linux 6.15, or
// without BBR): losses that it takes for congestion, for which it slows down to nothing.
func spare(t *testing.T, s relay.Settings) relay.Settings {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := stubborn(fd); err != nil {
		t.Logf("this kernel's TCP gives up too soon (%v): it is tried with 3%% loss", err)
		s.Loss, s.Corrupt = 0.03, 0.02
	}
	return s
}

// stubborn makes TCP go on through losses at a steady rate.
func stubborn(fd int) error {
	return errors.Join(unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr"),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 1000))
}

// relay leads the host's cable through an impairment relay, which does nothing yet.
func (n *Net) relay(t *testing.T, h *Host, seed uint64) *relay.Relay {
	t.Helper()
	netns(t, "relay", n.prefix, h.Name)
	var r *relay.Relay
	var err error
	n.host("r"+h.Name).in(t, func() { r, err = relay.Start("host", "bridge", seed) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("the relay of %s: %v", h.Name, err)
		}
	})
	return r
}

// impair sets what the relay does to the packets of one port.
func impair(t *testing.T, r *relay.Relay, s relay.Settings, protocol packet.Protocol, port uint16) {
	t.Helper()
	s.Only = relay.Class{Protocol: protocol, Port: port}
	if err := r.Set(relay.Both, s); err != nil {
		t.Fatal(err)
	}
}

// TestImpairedSetup: loss, reordering, duplication and corruption, of frames and of the control channel. Sessions are
// set up in time, and what arrives is what was sent, once.
func TestImpairedSetup(t *testing.T) {
	t.Parallel()
	pairs, rounds := times(3, 10), times(10, 100)
	n := newNet(t, 2*pairs)
	control := n.relay(t, n.KDC.Host, 1)
	var grants []string
	var frames []*relay.Relay
	for i := range pairs {
		a, b := n.Hosts[2*i], n.Hosts[2*i+1]
		grants = append(grants, grant(a.Name, b.Name, "udp/7000"))
		frames = append(frames, n.relay(t, a, uint64(2+i)))
	}
	n.carries(t)
	n.start(t, "10.77.0.1", grants...)
	impair(t, control, spare(t, badControl), packet.TCP, controlPort)
	var all []*sequence
	for i, r := range frames {
		impair(t, r, badFrames, packet.UDP, framePort)
		all = append(all, newSequence(t, n.Hosts[2*i], n.Hosts[2*i+1], 7000))
	}

	var took []time.Duration
	for range rounds {
		n.revoked(t)
		took = append(took, setUp(t, all)...)
	}
	slices.Sort(took)
	late := len(took) - sort.Search(len(took), func(i int) bool { return took[i] > setupWithin })
	t.Logf("%d setups: median %v, 99%% %v, 99.9%% %v, worst %v, late %d", len(took), took[len(took)/2],
		took[len(took)*99/100], took[len(took)*999/1000], took[len(took)-1], late)
	if late > len(took)/oneLateIn {
		t.Errorf("%d of %d setups took more than %v: %v", late, len(took), setupWithin, took[len(took)-late:])
	}
	for i, s := range all {
		s.check(t)
		hasImpaired(t, frames[i])
	}
	hasImpaired(t, control)
}

// setUp sends the first packets of all pairs at once and gives how long each pair took until one was answered.
func setUp(t *testing.T, all []*sequence) []time.Duration {
	t.Helper()
	took := make([]time.Duration, len(all))
	var done sync.WaitGroup
	for i, s := range all {
		done.Go(func() {
			var err error
			if took[i], err = s.answer(); err != nil {
				t.Errorf("pair %d: %v", i+1, err)
			}
		})
	}
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return took
}

// TestImpairedTraffic: the inner packets that arrive through a bad network are those that were sent, once each, and TCP
// makes a whole of them.
func TestImpairedTraffic(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	a, b := n.Hosts[0], n.Hosts[1]
	frames := n.relay(t, a, 3)
	n.carries(t)
	n.start(t, "10.77.0.1", grant("h1", "h2", "udp/7000", "tcp/7001"))
	whole := newTransfer(t, a, b, 7001)
	impair(t, frames, badFrames, packet.UDP, framePort)

	s := newSequence(t, a, b, 7000)
	setUp(t, []*sequence{s})
	s.shoot(t, 2000)
	s.check(t)
	impair(t, frames, spare(t, badFrames), packet.UDP, framePort)
	whole.persist(t)
	whole.run(t, times(1, 40)<<19, 6*patience) // TCP waits ever longer for what is lost again and again
	hasImpaired(t, frames)
	for _, h := range n.Hosts {
		if drops := h.Status(t).Drops; drops["not_opened"] == 0 || drops["replayed"] == 0 {
			t.Errorf("%s met no corrupted or no repeated frame: %v", h.Name, drops)
		}
	}
}

// hasImpaired wants the relay to have done its worst both ways, and to have missed nothing.
func hasImpaired(t *testing.T, r *relay.Relay) {
	t.Helper()
	c := r.Status()
	for way, did := range map[string]relay.Counters{"forward": c.Forward.Counters, "backward": c.Backward.Counters} {
		if min(did.Lost, did.Duplicated, did.Reordered, did.Corrupted) == 0 || did.Missed > 0 {
			t.Errorf("%s: the relay did %+v", way, did)
		}
	}
}

// carries waits until the first host reaches the KDC and the second.
func (n *Net) carries(t *testing.T) {
	t.Helper()
	for _, address := range []string{"10.77.0.1", "10.77.0.12"} {
		eventually(t, started, "the relays carry", func() error {
			if r := n.Hosts[0].Try(t, "ping", "-n", "-c1", "-W1", address); r.Code != 0 {
				return errors.New(r.String())
			}
			return nil
		})
	}
}

// revoked revokes all sessions until neither side has one. Over a bad network receipts take their time, and answers
// that were under way ask for a session anew.
func (n *Net) revoked(t *testing.T) {
	t.Helper()
	eventually(t, patience, "no session is left", func() error {
		if r := n.KDC.Try(t, "session", "revoke", "--all", "--wait", "1s"); r.Code != 0 {
			return errors.New(r.String())
		}
		for _, h := range n.Hosts {
			if left := h.Status(t).Sessions; len(left) > 0 {
				return fmt.Errorf("%s has %d", h.Name, len(left))
			}
		}
		return nil
	})
}

// sequence is numbered datagrams to an echo, both ends of which check each one against what was sent.
type sequence struct {
	conn     net.Conn
	sent     uint64
	answered chan uint64 // numbers of answers; those that nobody waits for are dropped when it is full

	mu     sync.Mutex
	seen   map[string]map[uint64]int // by side and number, how often
	faulty []string
}

// sequenceSize is the length of a datagram: its number over and over.
const sequenceSize = 600

func newSequence(t *testing.T, a, b *Host, port int) *sequence {
	t.Helper()
	s := &sequence{answered: make(chan uint64, 64), seen: map[string]map[uint64]int{a.Name: {}, b.Name: {}}}
	far := b.packets(t, 4, port)
	s.conn = a.mustDial(t, "udp", b.at(4, port))
	go func() {
		p := make([]byte, 1<<16)
		for {
			n, from, err := far.ReadFromUDPAddrPort(p)
			if err != nil {
				return // closed
			}
			s.take(b.Name, p[:n])
			far.WriteToUDPAddrPort(p[:n], from)
		}
	}()
	go func() {
		p := make([]byte, 1<<16)
		for {
			n, err := s.conn.Read(p)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // what was sent earlier was refused
			}
			if s.take(a.Name, p[:n]); n < 8 {
				continue
			}
			select {
			case s.answered <- binary.BigEndian.Uint64(p):
			default:
			}
		}
	}()
	return s
}

func numbered(number uint64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, number), sequenceSize/8)
}

func (s *sequence) take(side string, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p) < 8 || !bytes.Equal(p, numbered(binary.BigEndian.Uint64(p))) {
		s.faulty = append(s.faulty, fmt.Sprintf("%s got %x", side, p))
		return
	}
	s.seen[side][binary.BigEndian.Uint64(p)]++
}

func (s *sequence) send() {
	s.conn.Write(numbered(s.sent)) // an error is that of an earlier one
	s.sent++
}

// answer sends until one of these datagrams is answered, and gives how long that took.
func (s *sequence) answer() (time.Duration, error) {
	began, first := time.Now(), s.sent
	pulse, limit := time.NewTicker(5*beat), time.After(longest)
	defer pulse.Stop()
	for s.send(); ; {
		select {
		case number := <-s.answered:
			if number >= first {
				return time.Since(began), nil
			}
		case <-pulse.C:
			s.send()
		case <-limit:
			return 0, fmt.Errorf("no answer within %v", longest)
		}
	}
}

// shoot sends some more, and waits until there is an answer to one after the last of them.
func (s *sequence) shoot(t *testing.T, count int) {
	t.Helper()
	pulse := time.NewTicker(beat / 10)
	defer pulse.Stop()
	for range count {
		<-pulse.C
		s.send()
	}
	setUp(t, []*sequence{s})
}

// check wants every datagram at most once on each side, as it was sent.
func (s *sequence) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for side, seen := range s.seen {
		for number, times := range seen {
			if times > 1 || number >= s.sent {
				t.Errorf("%s got datagram %d of %d %d times", side, number, s.sent, times)
			}
		}
		t.Logf("%s got %d of %d datagrams", side, len(seen), s.sent)
	}
	for _, f := range s.faulty {
		t.Error(f)
	}
}

// oneWay is a TCP connection that is read to its end on the far side.
type oneWay struct {
	conn    net.Conn
	arrived chan []byte // all that came; nothing where reading failed
}

// newTransfer connects.
func newTransfer(t *testing.T, a, b *Host, port int) *oneWay {
	t.Helper()
	w := &oneWay{arrived: make(chan []byte, 1)}
	b.listen(t, 4, port, func(conn net.Conn) {
		defer conn.Close()
		if got, err := io.ReadAll(conn); err == nil {
			w.arrived <- got
		}
	})
	w.conn = a.mustDial(t, "tcp", b.at(4, port))
	return w
}

// persist makes it stubborn, as far as the kernel can (spare).
func (w *oneWay) persist(t *testing.T) {
	t.Helper()
	raw, err := w.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = stubborn(int(fd)) }); err != nil {
		t.Fatal(err)
	}
}

// run sends random bytes and checks that they arrive as they are.
func (w *oneWay) run(t *testing.T, size int, limit time.Duration) {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	began := time.Now()
	if err := w.conn.SetDeadline(began.Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.conn.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-w.arrived:
		if !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes arrived, or others", len(got), size)
		}
	case <-time.After(time.Until(began.Add(limit))):
		t.Fatalf("%d bytes have not arrived within %v", size, limit)
	}
	t.Logf("%d KiB in %v", size>>10, time.Since(began).Round(time.Millisecond))
}
