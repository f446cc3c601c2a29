package tunssm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is KDCs and SSMs on a network in memory. Everything in it lives in one synctest bubble.
type world struct {
	t        *testing.T
	net      *fake.Network
	kdcs     []*center
	stations map[string]*station
}

// station is one host with its SSM. Station number i has 100.80.0.i and fd00::i inside, 192.0.2.i outside.
type station struct {
	*SSM
	t        *testing.T
	name     string
	identity control.Identity
	host     *fake.Host
	more     []Queue // further ones
	in4      netip.Addr
	in6      netip.Addr
	saved    []control.Identity           // copies
	full     func(control.Identity) error // says that saving it fails; nil: it does not
	stop     context.CancelFunc
	done     chan error
}

const kdcPort = 7600

func kdcAddress(i int) string { return fmt.Sprintf("203.0.113.%d:%d", i+1, kdcPort) }

func in4(i int) netip.Addr { return netip.AddrFrom4([4]byte{100, 80, 0, byte(i)}) }
func in6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00::%x", i)) }

func underlay(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), control.DefaultFramePort)
}

// inWorld runs a test in a bubble with so many KDCs and the named SSMs, numbered from 1, connected.
func inWorld(t *testing.T, kdcs int, names []string, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: fake.NewNetwork(), stations: map[string]*station{}}
		for i := range kdcs {
			w.kdcs = append(w.kdcs, newCenter(t, w.net, kdcAddress(i)))
		}
		for i, name := range names {
			w.add(name, i+1)
		}
		synctest.Wait()
		test(t, w)
	})
}

// add starts an SSM.
func (w *world) add(name string, i int) *station {
	s := w.prepare(name, i)
	s.run(s.identity)
	return s
}

// prepare makes a host that the KDCs know and that is yet to run its SSM.
func (w *world) prepare(name string, i int) *station {
	w.t.Helper()
	id := control.Identity{Name: name, KeyID: control.NewKeyID(), Key: secret.NewKey()}
	m := member{
		name: name, key: id.Key,
		prefixes: []netip.Prefix{netip.PrefixFrom(in4(i), 32), netip.PrefixFrom(in6(i), 128)},
		config: control.Config{
			Name: name, Addresses: []netip.Addr{in4(i), in6(i)},
			Overlays: []netip.Prefix{netip.MustParsePrefix("100.80.0.0/16"), netip.MustParsePrefix("fd00::/64")},
		},
	}
	for _, c := range w.kdcs {
		id.KDCs = append(id.KDCs, c.address)
		c.mu.Lock()
		c.keys[id.KeyID] = m
		c.mu.Unlock()
	}
	s := &station{t: w.t, name: name, identity: id, host: w.net.Host(underlay(i)), in4: in4(i), in6: in6(i)}
	w.stations[name] = s
	w.t.Cleanup(s.end)
	return s
}

// run starts the SSM; end stops it and wants it to end well.
func (s *station) run(id control.Identity) {
	s.SSM = New(Options{
		Identity: id, Software: "test", Log: slog.New(slog.DiscardHandler),
		Host: Host{Queue: Queue{s.host.TUN, s.host.UDP, s.host.Wait}, More: s.more, Route: s.host.Route, Dial: s.host.Dial, MTU: s.host.MTU},
		Save: s.save,
	})
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.done = stop, make(chan error, 1)
	go func() { s.done <- s.Run(ctx) }()
}

// save keeps a copy of an identity, as a file would.
func (s *station) save(id control.Identity) error {
	if s.full != nil {
		if err := s.full(id); err != nil {
			return err
		}
	}
	b, err := id.Marshal()
	if err != nil {
		return err
	}
	kept, err := control.ParseIdentity(b)
	s.saved = append(s.saved, kept)
	return err
}

// learned are the lists of KDCs that were saved.
func (s *station) learned() (list [][]string) {
	for _, id := range s.saved {
		list = append(list, id.KDCs)
	}
	return list
}

func (s *station) end() {
	if s.stop == nil {
		return // it never ran
	}
	s.stop()
	if err := <-s.done; err != nil {
		s.t.Errorf("%s ended: %v", s.name, err)
	}
	s.done <- nil // ending twice is harmless
}

// restart makes another run of the SSM, on a host like the one before.
func (w *world) restart(name string) {
	s := w.stations[name]
	addr := s.host.UDP.Addr()
	s.end()
	<-s.done
	s.host = w.net.Host(addr)
	s.run(s.identity)
	synctest.Wait()
}

// in runs f on the acquirer's goroutine.
func (s *station) in(f func(a *acquirer)) {
	s.t.Helper()
	done := make(chan struct{})
	if !s.data.toAcquirer(func(a *acquirer) { f(a); close(done) }) {
		s.t.Fatalf("%s has ended", s.name)
	}
	<-done
}

// status is the SSM's once all is quiet.
func (s *station) status() Status {
	s.t.Helper()
	synctest.Wait()
	st, err := s.Status()
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// received is what the host has received since the last call, once all is quiet.
func (s *station) received() (list [][]byte) {
	synctest.Wait()
	for {
		select {
		case pkt := <-s.host.TUN.Packets():
			list = append(list, pkt)
		default:
			return list
		}
	}
}

// wants checks that the host has received these packets and no others, in this order.
func (s *station) wants(packets ...[]byte) {
	s.t.Helper()
	got := s.received()
	if !slices.EqualFunc(got, packets, bytes.Equal) {
		s.t.Fatalf("%s received %d packets %x, want %d %x", s.name, len(got), got, len(packets), packets)
	}
}

// drops checks one counter.
func (s *station) drops(why Drop, want uint64) {
	s.t.Helper()
	synctest.Wait()
	if got := s.data.drops[why].Load(); got != want {
		s.t.Fatalf("%s dropped %d as %s, want %d; all: %v", s.name, got, why, want, s.data.drops.snapshot())
	}
}

// datagram is a UDP packet between two stations whose payload is text.
func datagram(from, to *station, port uint16, text string) []byte {
	return fake.UDPPacket(netip.AddrPortFrom(from.in4, 40000), netip.AddrPortFrom(to.in4, port), []byte(text))
}

func datagram6(from, to *station, port uint16, text string) []byte {
	return fake.UDPPacket(netip.AddrPortFrom(from.in6, 40000), netip.AddrPortFrom(to.in6, port), []byte(text))
}

// connect makes a confirmed session that from has asked for.
func (w *world) connect(from, to string) (a, b *session) {
	w.t.Helper()
	x, y := w.stations[from], w.stations[to]
	pkt := datagram(x, y, 9, "connect")
	x.host.TUN.Inject(pkt)
	y.wants(pkt)
	return x.sending(to), y.sending(from)
}

// sending is the session that s sends on to a peer; nil for none.
func (s *station) sending(to string) (found *session) {
	synctest.Wait()
	s.in(func(a *acquirer) {
		if p := a.peers[to]; p != nil {
			found = p.sending.Load()
		}
	})
	return found
}

// state is where a session is in its life.
func (s *station) state(x *session) (now state) {
	s.in(func(*acquirer) { now = x.state })
	return now
}

// sessions are all those with a peer.
func (s *station) sessions(with string) (list []*session) {
	synctest.Wait()
	s.in(func(a *acquirer) {
		if p := a.peers[with]; p != nil {
			list = slices.Clone(p.sessions)
		}
	})
	return list
}

// answered checks that the host was told, by the packet's destination, why the packet was not sent.
func (s *station) answered(original []byte, cause packet.Cause) {
	s.t.Helper()
	o, err := packet.Parse(original)
	if err != nil {
		s.t.Fatal(err)
	}
	want, ok := packet.AppendError(nil, cause, 0, o.Dst, original)
	if !ok {
		s.t.Fatal("no answer may be given to this packet")
	}
	s.wants(want)
}

// ended waits for Run to return.
func (s *station) ended(want error) {
	s.t.Helper()
	if err := <-s.done; !errors.Is(err, want) {
		s.t.Fatalf("Run: %v, want %v", err, want)
	}
	s.done <- nil
}
