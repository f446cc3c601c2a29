package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// roamWithin is how soon traffic goes on after the address has changed: before the next keepalive, which comes after 5 s,
// give or take a second.
const roamWithin = 4 * time.Second

// moves is how often TestRoaming and TestRebinding move a host, for each of senders.
var moves = times(1, 50)

// senders are the sides that send when a host moves: itself, the other.
var senders = []struct {
	name  string
	sends [2]bool
}{{"both send", [2]bool{true, true}}, {"only it sends", [2]bool{true, false}}, {"only the other sends", [2]bool{false, true}}}

// TestRoaming: the underlay address of one side changes under traffic, which goes on, on the same session, whichever side
// sends.
func TestRoaming(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kdc string
		without   string // family taken off the underlay
		home      string
		away      string // format, with a number
	}{
		{"IPv4", "10.77.0.1", "-6", "10.77.0.11/24", "10.77.0.%d/24"},
		{"IPv6", "fd77::1", "-4", "fd77::11/64", "fd77::%d/64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNet(t, 2)
			for _, h := range append(n.Hosts, n.KDC.Host) {
				h.Run(t, "ip", tt.without, "addr", "flush", "dev", "eth0")
			}
			n.start(t, tt.kdc, grant("tag:all", "tag:all", "udp/7000-7001"))
			w := startWanderer(t, n)
			at := tt.home
			for range moves {
				for _, s := range senders {
					from, to := at, fmt.Sprintf(tt.away, 101+w.moved%100)
					at = to
					w.goesOn(t, s.name, s.sends, roamWithin, func() { w.host.move(t, from, to) })
					w.isAt(t, netip.AddrPortFrom(netip.MustParsePrefix(to).Addr(), framePort))
				}
			}
			w.tell(t)
		})
	}
}

// wanderer is a host that moves about, and its traffic with one that stays.
type wanderer struct {
	host, other *Host
	trains      [2]*train // from it, to it
	session     string
	moved       int
	took        map[string][]time.Duration
}

func startWanderer(t *testing.T, n *Net) *wanderer {
	t.Helper()
	a, b := n.Hosts[0], n.Hosts[1]
	w := &wanderer{host: a, other: b, took: map[string][]time.Duration{}}
	w.trains = [2]*train{startTrain(t, a, b, 7000, 1, beat), startTrain(t, b, a, 7001, 1, beat)}
	w.session = settled(t, a, b)
	return w
}

// goesOn moves the host and measures how long it takes until what is sent afterwards arrives, in each direction that has
// traffic; the session stays.
func (w *wanderer) goesOn(t *testing.T, what string, sends [2]bool, within time.Duration, move func()) {
	t.Helper()
	for i, r := range w.trains {
		r.pause(!sends[i])
	}
	for i, r := range w.trains {
		if sends[i] {
			r.runs(t, r.number())
		}
	}
	began := time.Now()
	move()
	w.moved++
	for i, r := range w.trains {
		if sends[i] {
			took := r.runs(t, r.number()).Sub(began)
			w.took[what] = append(w.took[what], took)
			if took > within {
				t.Errorf("move %d, %s: traffic from %s went on after %v only", w.moved, what, r.from.Name, took)
			}
		}
	}
	if now := settled(t, w.host, w.other); now != w.session {
		t.Errorf("move %d, %s: session %s has become %s", w.moved, what, w.session, now)
		w.session = now
	}
}

// isAt checks where the other sends to.
func (w *wanderer) isAt(t *testing.T, want netip.AddrPort) {
	t.Helper()
	for _, s := range w.other.Status(t).Sessions {
		if s.State == "sending" && s.Endpoint != want {
			t.Errorf("%s has the endpoint %v, want %v", w.other.Name, s.Endpoint, want)
		}
	}
}

func (w *wanderer) tell(t *testing.T) {
	t.Helper()
	for what, took := range w.took {
		t.Logf("%s: traffic goes on after %s, of %d", what, spread(took), len(took))
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
