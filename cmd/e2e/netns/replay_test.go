package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/tunssm"
)

// replays is how many frames are captured, half of them each way.
var replays = times(1000, 10000)

// TestReplay: frames that were captured and come again, from where they came or from elsewhere, under their session, while
// it is open after a rekey, or after a restart of either side, deliver nothing and move nothing.
func TestReplay(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 3, grant("h1", "h2", "udp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	for _, h := range n.Hosts {
		h.quiet(t)
	}
	b.echo(t, 4, 7000)
	r := &replayer{host: n.Hosts[2], conn: a.mustDial(t, "udp", b.at(4, 7000)), endpoints: map[*Host]netip.AddrPort{
		a: netip.MustParseAddrPort("10.77.0.12:7601"), b: netip.MustParseAddrPort("10.77.0.11:7601")}}
	r.exchange(t, 1)
	settled(t, a, b)
	c := startCapture(t, b, "eth0", filepath.Join(n.dir, "frames.pcap"))
	r.exchange(t, replays/2)
	for _, p := range c.end(t, theLast, func() { a.pingPattern(t, "10.77.0.12", theLast) }) {
		if p.src.Port() == framePort && len(p.payload) > 0 {
			r.frames = append(r.frames, p)
		}
	}
	if len(r.frames) < replays {
		t.Fatalf("%d frames were captured", len(r.frames))
	}
	r.changesNothing(t, "replayed")
	n.rekey(t, 0).Wait(t, longest)
	settled(t, a, b)
	r.changesNothing(t, "replayed")
	for _, h := range []*Host{a, b} {
		for how, stop := range map[string]func(){"down": func() { h.SSM(t, "down") }, "killed": func() { h.kill(t) }} {
			id := settled(t, a, b)
			stop()
			h.SSM(t, "up")
			for _, h := range []*Host{a, b} {
				eventually(t, started, fmt.Sprintf("%s has lost the session with what was %s", h.Name, how), func() error {
					if slices.Contains(h.Sending(t), id) {
						return errors.New("it sends on it")
					}
					return nil
				})
			}
			r.exchange(t, 3) // the applications' sockets outlive their address
			settled(t, a, b)
			r.changesNothing(t, "unknown_spi")
		}
	}
	t.Logf("%d times %d frames", r.replays, len(r.frames))
}

// replayer is a host that has captured what two others said to each other.
type replayer struct {
	host      *Host
	frames    []capturedPacket
	endpoints map[*Host]netip.AddrPort // each of the two, and where the other is
	conn      net.Conn                 // between the two, to an echo
	replays   int
}

// exchange is traffic between the two, which must come through.
func (r *replayer) exchange(t *testing.T, times int) {
	t.Helper()
	if err := pingPong(r.conn, times); err != nil {
		t.Fatal(err)
	}
}

// changesNothing replays the frames, from their own addresses and from another, and checks that all were dropped for the
// reason, and nothing else has happened.
func (r *replayer) changesNothing(t *testing.T, reason string) {
	t.Helper()
	for _, from := range []netip.Addr{{}, netip.MustParseAddr("10.77.0.13")} {
		before := map[*Host]tunssm.Status{}
		for h := range r.endpoints {
			before[h] = h.Status(t)
		}
		r.replay(t, from)
		for h := range r.endpoints {
			r.leaves(t, h, before[h], reason)
		}
		r.exchange(t, 3)
	}
}

// leaves waits until a host has dropped what was replayed to it, and checks that it is otherwise as it was.
func (r *replayer) leaves(t *testing.T, h *Host, was tunssm.Status, reason string) {
	t.Helper()
	sent := uint64(0)
	for _, p := range r.frames {
		if p.src == r.endpoints[h] {
			sent++
		}
	}
	want := maps.Clone(was.Drops)
	want[reason] += sent
	eventually(t, started, h.Name+" has dropped all frames", func() error {
		if now := h.Status(t); now.Drops[reason] != want[reason] {
			return fmt.Errorf("want %v, it has dropped %v", want, now.Drops)
		}
		return nil
	})
	now := h.Status(t)
	if !maps.Equal(now.Drops, want) {
		t.Errorf("%s has dropped %v, want %v", h.Name, now.Drops, want)
	}
	if now.Rx.Packets != was.Rx.Packets {
		t.Errorf("%s delivered %d packets of a replay", h.Name, now.Rx.Packets-was.Rx.Packets)
	}
	sameSession := func(x, y tunssm.SessionStatus) bool {
		return x.ID == y.ID && x.State == y.State && x.Endpoint == r.endpoints[h]
	}
	if !slices.EqualFunc(now.Sessions, was.Sessions, sameSession) {
		t.Errorf("want %s as before the replay, with endpoint %v, got %+v", h.Name, r.endpoints[h], now.Sessions)
	}
}

// replay sends the frames once more, each from its own address or all from another.
func (r *replayer) replay(t *testing.T, from netip.Addr) {
	t.Helper()
	r.replays++
	var raw int
	var err error
	r.host.in(t, func() { raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW) })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(raw)
	pulse := time.NewTicker(time.Millisecond) // so that no buffer overruns
	defer pulse.Stop()
	for i, p := range r.frames {
		src := p.src.Addr()
		if from.IsValid() {
			src = from
		}
		b := udp4(src, p.dst.Addr(), p.dst.Port(), string(p.payload))
		binary.BigEndian.PutUint16(b[20:], p.src.Port())
		if err := unix.Sendto(raw, b, 0, &unix.SockaddrInet4{Addr: p.dst.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			<-pulse.C
		}
	}
}
