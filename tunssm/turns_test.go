package tunssm

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestScan: packets to every address that there could be cost a bounded rate of requests, and leave room for those to a
// destination that a grant was for: it is asked for at once.
func TestScan(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		before := datagram(a, b, 9, "before")
		a.host.TUN.Inject(before)
		b.wants(before)
		a.in(func(acq *acquirer) { acq.destroy(acq.peers["b"].sessions[0], "for the test") })
		kdc.set(func(s *script) {
			s.decide = func(_ string, q *control.KeyRequest) control.Reason {
				if q.Flow.Dst == b.in4 {
					return 0
				}
				return control.Unknown
			}
		})
		const scanned = 20_000
		for i := range scanned {
			to := netip.AddrFrom4([4]byte{100, 100, byte(i >> 8), byte(i)})
			a.host.TUN.Inject(fake.UDPPacket(netip.AddrPortFrom(a.in4, 9), netip.AddrPortFrom(to, 9), make([]byte, 1000)))
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		asked, _ := w.requests(0, "a")
		if n := len(asked); n != strangeBurst {
			t.Errorf("%d requests at once, want %d", n, strangeBurst)
		}
		a.in(func(acq *acquirer) {
			if n := len(acq.turns.waiting); n != maxTurns || acq.holds.total > maxHeldStrange+2000 {
				t.Errorf("%d destinations wait, and %d bytes", n, acq.holds.total)
			}
		})
		first := datagram(a, b, 9, "first")
		a.host.TUN.Inject(first)
		b.wants(first)
		time.Sleep(time.Second)
		asked, _ = w.requests(0, "a")
		if n := len(asked); n < strangeBurst+strangeRate*9/10 || n > strangeBurst+strangeRate+2 {
			t.Errorf("%d requests after a second", n)
		}
		time.Sleep(2 * time.Second)
		a.in(func(acq *acquirer) {
			if len(acq.turns.waiting) != 0 || acq.holds.total != 0 {
				t.Errorf("%d destinations wait, and %d bytes", len(acq.turns.waiting), acq.holds.total)
			}
		})
	})
}

// TestFamiliarIsBounded: of ever more destinations, none is familiar for good.
func TestFamiliarIsBounded(t *testing.T) {
	var f familiar
	for i := range maxFamiliar + 100 {
		f.meet(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if len(f.destinations) != maxFamiliar || !f.knows(netip.AddrFrom4([4]byte{10, 0, (maxFamiliar + 99) >> 8, (maxFamiliar + 99) & 255})) {
		t.Errorf("%d are familiar", len(f.destinations))
	}
}
