package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/tunssm"
)

// roamWithin is how soon traffic goes on after the address has changed.
const roamWithin = 3 * time.Second

// TestRoaming: the underlay address of one side changes under a flow, which goes on, on the same session.
func TestRoaming(t *testing.T) {
	for _, tt := range []struct {
		name, kdc string
		without   string // family taken off the underlay
		addresses []string
	}{
		{"IPv4", "10.77.0.1", "-6", []string{"10.77.0.11/24", "10.77.0.101/24", "10.77.0.102/24", "10.77.0.11/24", "10.77.0.103/24"}},
		{"IPv6", "fd77::1", "-4", []string{"fd77::11/64", "fd77::101/64", "fd77::102/64", "fd77::11/64", "fd77::103/64"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNet(t, 2)
			for _, h := range append(n.Hosts, n.KDC.Host) {
				h.Run(t, "ip", tt.without, "addr", "flush", "dev", "eth0")
			}
			n.start(t, tt.kdc, grant("tag:all", "tag:all", "udp/7000-7001"))
			a, b := n.Hosts[0], n.Hosts[1]
			there, back := startFlow(t, a, b, 7000), startFlow(t, b, a, 7001)
			id := settled(t, a, b)
			for i, address := range tt.addresses[1:] {
				began := time.Now()
				a.move(t, tt.addresses[i], address)
				there.runs(t)
				back.runs(t)
				took := time.Since(began)
				t.Logf("at %s traffic goes on after %v", address, took.Round(time.Millisecond))
				if took > roamWithin {
					t.Errorf("at %s traffic went on after %v only", address, took)
				}
				if now := settled(t, a, b); now != id {
					t.Errorf("at %s session %s has become %s", address, id, now)
				}
				want := netip.AddrPortFrom(netip.MustParsePrefix(address).Addr(), framePort)
				if at := b.Status(t).Sessions[0].Endpoint; at != want {
					t.Errorf("%s has the endpoint %v, want %v", b.Name, at, want)
				}
			}
		})
	}
}

// move gives the host's cable another address instead of the one it has.
func (h *Host) move(t *testing.T, from, to string) {
	t.Helper()
	h.Run(t, "ip", "addr", "del", from, "dev", "eth0")
	add := []string{"ip", "addr", "add", to, "dev", "eth0"}
	if netip.MustParsePrefix(to).Addr().Is6() {
		add = append(add, "nodad")
	}
	h.Run(t, add...)
}

// replays is how many frames are captured, half of them each way.
const replays = 1000

// TestReplay: frames that were captured and come again, from where they came or from elsewhere, under their session or
// after a restart of either side, deliver nothing and move nothing.
func TestReplay(t *testing.T) {
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
	elsewhere := netip.MustParseAddr("10.77.0.13")
	r.changesNothing(t, netip.Addr{}, "replayed")
	r.changesNothing(t, elsewhere, "replayed")
	for _, h := range []*Host{a, b} {
		h.SSM(t, "down")
		h.SSM(t, "up")
		r.exchange(t, 3) // the applications' sockets outlive their address
		settled(t, a, b)
		r.changesNothing(t, netip.Addr{}, "unknown_spi")
		r.changesNothing(t, elsewhere, "unknown_spi")
	}
}

// replayer is a host that has captured what two others said to each other.
type replayer struct {
	host      *Host
	frames    []capturedPacket
	endpoints map[*Host]netip.AddrPort // each of the two, and where the other is
	conn      net.Conn                 // between the two, to an echo
}

// exchange is traffic between the two, which must come through.
func (r *replayer) exchange(t *testing.T, times int) {
	t.Helper()
	if err := pingPong(r.conn, times); err != nil {
		t.Fatal(err)
	}
}

// changesNothing replays the frames, from their own addresses or from another, and checks that all were dropped for the
// reason, and nothing else has happened.
func (r *replayer) changesNothing(t *testing.T, from netip.Addr, reason string) {
	t.Helper()
	before := map[*Host]tunssm.Status{}
	for h := range r.endpoints {
		before[h] = h.Status(t)
	}
	r.replay(t, from)
	for h, endpoint := range r.endpoints {
		sent, was := 0, before[h]
		for _, p := range r.frames {
			if p.src == endpoint {
				sent++
			}
		}
		eventually(t, started, h.Name+" has dropped all frames", func() error {
			now := h.Status(t)
			if now.Drops[reason]-was.Drops[reason] != uint64(sent) {
				return fmt.Errorf("want %d %s: before %v, now %v", sent, reason, was.Drops, now.Drops)
			}
			return nil
		})
		now := h.Status(t)
		if now.Rx.Packets != was.Rx.Packets {
			t.Errorf("%s delivered %d packets of a replay", h.Name, now.Rx.Packets-was.Rx.Packets)
		}
		if len(now.Sessions) != 1 || now.Sessions[0].Endpoint != endpoint || now.Sessions[0].ID != was.Sessions[0].ID {
			t.Errorf("want %s as before the replay, with endpoint %v, got %+v", h.Name, endpoint, now.Sessions)
		}
	}
	r.exchange(t, 3)
}

// replay sends the frames once more, each from its own address or all from another.
func (r *replayer) replay(t *testing.T, from netip.Addr) {
	t.Helper()
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
