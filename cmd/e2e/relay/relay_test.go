package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet"
)

var pinging = Class{Protocol: packet.ICMP}

// TestPingLoss: as many answers are missing as the relay says it lost, and as many as it was told to lose.
func TestPingLoss(t *testing.T) {
	const n = 300
	net := newNetwork(t, 1)
	net.set(t, Forward, Settings{Only: pinging, Loss: 0.3})
	p := net.ping(t, n, 2*ms)
	near(t, "lost", n-p.received, n, 0.3)
	c := net.relay.Status().Forward.Counters
	if int(c.Packets) != n || int(c.Lost) != n-p.received {
		t.Errorf("%d answers, the relay says %+v", p.received, c)
	}
	if back := net.relay.Status().Backward.Counters; back.Lost != 0 || back.Packets != 0 {
		t.Errorf("the other way: %+v", back)
	}
}

// TestPingRepeatable: the same seed loses and duplicates the same packets on the same network, another one others.
func TestPingRepeatable(t *testing.T) {
	type outcome struct{ received, lost, duplicated int }
	var got []outcome
	for _, seed := range []uint64{7, 7, 8} {
		net := newNetwork(t, seed)
		net.set(t, Forward, Settings{Only: pinging, Loss: 0.3, Duplicate: 0.3})
		p := net.ping(t, 60, 2*ms)
		c := net.relay.Status().Forward.Counters
		got = append(got, outcome{p.received, int(c.Lost), int(c.Duplicated)})
	}
	if got[0] != got[1] || got[0] == got[2] {
		t.Errorf("seeds 7, 7 and 8: %+v", got)
	}
}

// TestPingDelay: each way has its own.
func TestPingDelay(t *testing.T) {
	net := newNetwork(t, 1)
	for _, tt := range []struct{ forward, backward time.Duration }{{20 * ms, 0}, {0, 30 * ms}, {10 * ms, 15 * ms}} {
		net.set(t, Forward, Settings{Delay: tt.forward})
		net.set(t, Backward, Settings{Delay: tt.backward})
		want := tt.forward + tt.backward
		if p := net.ping(t, 20, 5*ms); p.received != 20 || p.least < want || p.least > want+10*ms {
			t.Errorf("%+v: %+v", tt, p)
		}
	}
}

// TestBlackoutStopsAll: pings, and the ARP requests that they would need.
func TestBlackoutStopsAll(t *testing.T) {
	net := newNetwork(t, 1)
	net.set(t, Both, Settings{Blackout: true})
	if p := net.ping(t, 20, 5*ms); p.received != 0 {
		t.Errorf("in a blackout %d pings are answered", p.received)
	}
	if c := net.relay.Status().Forward.Counters; c.Blackout < 20 || c.Blackout != c.Packets {
		t.Errorf("the relay says %+v", c)
	}
	net.set(t, Both, Settings{Only: Class{Protocol: packet.TCP}, Blackout: true}) // not of our business
	if p := net.ping(t, 20, 5*ms); p.received != 20 {
		t.Errorf("after it %d pings are answered", p.received)
	}
}

// TestTransfer: 5 MiB over TCP arrive bit for bit whatever the network does, and no faster than the rate.
func TestTransfer(t *testing.T) {
	data := random(rand.New(rand.NewPCG(5, 5)), 5<<20)
	net := newNetwork(t, 1)
	for _, tt := range []struct {
		name string
		s    Settings
		size int
	}{
		{"untouched", Settings{}, len(data)},
		{"loss", Settings{Loss: 0.01}, len(data)},
		{"corruption", Settings{Corrupt: 0.01}, len(data)},
		{"all", Settings{Loss: 0.01, Duplicate: 0.05, Reorder: 0.02, ReorderBy: ms, Corrupt: 0.01, Delay: ms,
			Jitter: ms / 2}, 1 << 20},
		{"rate", Settings{Rate: 20e6}, 1 << 20},
	} {
		before := net.relay.Status().Forward.Counters
		net.set(t, Both, tt.s)
		took := net.transfer(t, data[:tt.size])
		c := net.relay.Status().Forward.Counters
		t.Logf("%s: %v", tt.name, took)
		if tt.s.Rate > 0 && took < time.Duration(float64(tt.size-DefaultQueue)*8/tt.s.Rate*1e9) {
			t.Errorf("%s: faster than the rate: %v", tt.name, took)
		}
		if tt.s.Loss > 0 && c.Lost == before.Lost || tt.s.Corrupt > 0 && c.Corrupted == before.Corrupted ||
			tt.s.Duplicate > 0 && c.Duplicated == before.Duplicated || tt.s.Reorder > 0 && c.Reordered == before.Reordered {
			t.Errorf("%s: nothing happened: %+v", tt.name, c)
		}
	}
}

// TestSuperPackets: the veth's offloads survive. A relay that does nothing passes frames as large as they come.
func TestSuperPackets(t *testing.T) {
	const size = 5 << 20
	net := newNetwork(t, 1)
	net.transfer(t, make([]byte, size))
	c := net.relay.Status().Forward.Counters
	if c.Passed != c.Frames || c.Refused != 0 || size/c.Frames < 3000 {
		t.Errorf("frames were cut, refused, or never large: %+v", c)
	}
}

// datagram is the i-th payload.
func datagram(i int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(i)), bytes.Repeat([]byte{0xaa}, 100)...)
}

// datagrams sends n numbered datagrams, slowly enough to be reordered one by one, and gives the payloads that arrive up
// to the last, which is sent once nothing is impaired any more and nothing is on its way.
func datagrams(t *testing.T, net *network, s Settings, n int) (got [][]byte) {
	t.Helper()
	from, to := net.sockets(t)
	before := net.relay.Status().Forward.Counters.Packets
	net.set(t, Forward, s)
	pace := time.NewTicker(ms / 5)
	defer pace.Stop()
	for i := range n {
		<-pace.C
		if _, err := from.Write(datagram(i)); err != nil {
			t.Fatal(err)
		}
	}
	net.arrived(t, before+uint64(n))
	net.set(t, Forward, Settings{})
	if _, err := from.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, 2000)
		size, err := to.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:size]) == "end" {
			return got
		}
		got = append(got, b[:size])
	}
}

// arrived waits until so many packets have been decided upon, and all that are to arrive have been sent.
func (n *network) arrived(t *testing.T, packets uint64) {
	t.Helper()
	poll := time.NewTicker(ms)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		c := n.relay.Status().Forward.Counters
		if c.Packets >= packets && c.Passed+c.Packets-c.Lost-c.Blackout-c.Overrun+c.Duplicated == c.Sent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("something is still on its way: %+v", c)
		}
	}
}

// TestDatagrams: what arrives is what the counters say, and only what was asked for has happened.
func TestDatagrams(t *testing.T) {
	const n = 600
	udp := Class{Protocol: packet.UDP}
	net := newNetwork(t, 1)
	for name, s := range map[string]Settings{
		"plain":     {Only: udp, Delay: ms},
		"duplicate": {Only: udp, Duplicate: 0.2},
		"reorder":   {Only: udp, Reorder: 0.25, ReorderBy: 50 * ms},
		"jitter":    {Only: udp, Delay: 5 * ms, Jitter: 5 * ms},
		"all":       {Only: udp, Loss: 0.3, Duplicate: 0.2, Reorder: 0.25, ReorderBy: 50 * ms, Delay: 2 * ms, Jitter: ms},
	} {
		before := net.relay.Status().Forward.Counters
		got := datagrams(t, net, s, n)
		c := net.relay.Status().Forward.Counters
		lost, duplicated := int(c.Lost-before.Lost), int(c.Duplicated-before.Duplicated)
		reordered := int(c.Reordered - before.Reordered)
		var overtaken, copies int
		seen, newest := map[uint32]bool{}, uint32(0)
		for _, b := range got {
			number := binary.BigEndian.Uint32(b)
			if seen[number] {
				copies++
			} else if number < newest {
				overtaken++
			}
			seen[number], newest = true, max(newest, number)
		}
		if len(seen) != n-lost || copies != duplicated {
			t.Errorf("%s: %d arrive, %d twice; %d lost, %d duplicated", name, len(seen), copies, lost, duplicated)
		}
		near(t, name+": lost", lost, n, s.Loss)
		near(t, name+": duplicated", duplicated, n-lost, s.Duplicate)
		if s.Reorder == 0 && overtaken > 0 || s.Reorder > 0 && overtaken < reordered/2 {
			t.Errorf("%s: %d overtaken of %d held back", name, overtaken, reordered)
		}
	}
}

// TestCorruptedDatagrams reach the program if and only if their checksums are mended.
func TestCorruptedDatagrams(t *testing.T) {
	const n = 200
	net := newNetwork(t, 1)
	s := Settings{Only: Class{Protocol: packet.UDP}, Corrupt: 1}
	if got := datagrams(t, net, s, n); len(got) != 0 {
		t.Errorf("%d datagrams arrive with a wrong checksum", len(got))
	}
	s.Mend = true
	got := datagrams(t, net, s, n)
	if len(got) != n {
		t.Errorf("%d of %d corrupted datagrams arrive", len(got), n)
	}
	for i, b := range got {
		if want := datagram(i); len(b) != len(want) || differing(b, want) != 1 {
			t.Fatalf("datagram %d: %x", i, b)
		}
	}
}

// TestControl: over the socket all can be set and read, and what is wrong is refused and changes nothing.
func TestControl(t *testing.T) {
	network := newNetwork(t, 1)
	socket := filepath.Join(t.TempDir(), "relay.sock")
	l, err := daemon.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: Handler(network.relay)}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()
	defer func() { server.Close(); <-served }()
	client := NewClient(socket)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	loss := Settings{Only: pinging, Loss: 1}
	if err := client.Set(ctx, Backward, loss); err != nil {
		t.Fatal(err)
	}
	if p := network.ping(t, 5, ms); p.received != 0 {
		t.Errorf("%+v in spite of the settings", p)
	}
	if err := client.Set(ctx, Both, Settings{Loss: 7}); err == nil || !strings.Contains(err.Error(), "loss") {
		t.Errorf("a loss of 7: %v", err)
	}
	if err := client.Set(ctx, "sideways", Settings{}); err == nil {
		t.Error("sideways is a way")
	}
	s, err := client.Status(ctx)
	if err != nil || s.Backward.Settings != loss || s.Forward.Settings != (Settings{}) || s.Backward.Counters.Lost != 5 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestInterfaceDeleted ends the relay, and Close says why. Taken down and up again it goes on.
func TestInterfaceDeleted(t *testing.T) {
	n := newNetwork(t, 1)
	with := func(do func(netlink.Link) error) {
		in(t, n.middle, func() error {
			link, err := netlink.LinkByName("right")
			if err != nil {
				return err
			}
			return do(link)
		})
	}
	with(netlink.LinkSetDown)
	with(netlink.LinkSetUp)
	in(t, n.middle, func() error { return carries("right") })
	in(t, n.second, func() error { return carries("eth0") })
	if p := n.ping(t, 20, 10*ms); p.received < 10 {
		t.Errorf("after down and up: %+v", p)
	}
	with(netlink.LinkDel)
	select {
	case <-n.relay.Done():
	case <-time.After(patience):
		t.Fatal("the relay does not notice")
	}
	n.ends = ErrGone
}
