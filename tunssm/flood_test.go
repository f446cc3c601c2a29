package tunssm

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// requests are those that a station has made of a KDC, with the call of each.
func (w *world) requests(kdc int, from string) (list []*control.KeyRequest, calls []uint64) {
	synctest.Wait()
	c := w.kdcs[kdc]
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.received {
		if q, ok := r.Message.(*control.KeyRequest); ok && r.from == from {
			list, calls = append(list, q), append(calls, r.ID)
		}
	}
	return list, calls
}

// TestForeignSource: a packet from an address that is not ours is refused here; one from our subnet is asked for, and a
// denial of the one source is not one of the other.
func TestForeignSource(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		behind := netip.MustParseAddrPort("10.7.0.9:40000")
		foreign := fake.UDPPacket(behind, netip.AddrPortFrom(b.in4, 9), []byte("x"))
		a.host.TUN.Inject(foreign)
		a.answered(foreign, packet.AdminProhibited)
		if list, _ := w.requests(0, "a"); len(list) != 0 {
			t.Fatalf("%d requests for a foreign source", len(list))
		}
		config := a.acq.config
		config.Subnets = []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")}
		kdc.tell("a", &control.Update{Config: config})
		kdc.set(func(s *script) {
			s.decide = func(_ string, q *control.KeyRequest) control.Reason {
				if q.Flow.Src == behind.Addr() {
					return control.Denied
				}
				return 0
			}
		})
		synctest.Wait()
		a.host.TUN.Inject(foreign)
		a.answered(foreign, packet.AdminProhibited)
		if list, _ := w.requests(0, "a"); len(list) != 1 {
			t.Fatalf("%d requests for a source in our subnet, want 1", len(list))
		}
		own := datagram(a, b, 9, "own")
		a.host.TUN.Inject(own)
		b.wants(own)
	})
}

// TestOneServiceFloods: a service that fills the hold queue leaves room for the first packets of another.
func TestOneServiceFloods(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.mute = true })
		for range maxHeldFrames + 10 {
			a.host.TUN.Inject(datagram(a, b, 22, "flood"))
		}
		a.drops(dropHoldFull, 10)
		var good [][]byte
		for i := range 3 {
			good = append(good, datagram(a, b, 9, string(rune('a'+i))))
			a.host.TUN.Inject(good[i])
		}
		a.drops(dropHoldFull, 10+3) // two of the flood, and the third, which has its share
		list, calls := w.requests(0, "a")
		if len(list) != 1 {
			t.Fatalf("%d requests, want 1", len(list))
		}
		kdc.set(func(s *script) { s.mute = false })
		kdc.line("a").conn.Send(calls[0], &control.KeyDenial{Na: list[0].Na, Reason: control.Denied})
		b.wants(good[:fairShare]...)
		if n := len(a.received()); n != maxHeldFrames-fairShare {
			t.Errorf("%d answers to the flood, want %d", n, maxHeldFrames-fairShare)
		}
	})
}

// TestManyServicesFlood: once one service was denied, several are asked for at once, and a yes serves all that wait.
func TestManyServicesFlood(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.mute = true })
		for port := range uint16(10) {
			a.host.TUN.Inject(datagram(a, b, 100+port, "scan"))
		}
		good := datagram(a, b, 9, "good")
		a.host.TUN.Inject(good)
		list, calls := w.requests(0, "a")
		if len(list) != 1 {
			t.Fatalf("%d requests before the first answer, want 1", len(list))
		}
		for answered := 0; answered < 10; answered++ {
			kdc.line("a").conn.Send(calls[answered], &control.KeyDenial{Na: list[answered].Na, Reason: control.Denied})
			list, calls = w.requests(0, "a")
			if want := min(11, answered+1+maxAsking); len(list) != want {
				t.Fatalf("%d requests after %d denials, want %d", len(list), answered+1, want)
			}
		}
		kdc.set(func(s *script) { s.mute = false })
		time.Sleep(control.HoldTimeout) // the last was muted too
		a.received()
		time.Sleep(absentLife + time.Millisecond)
		a.host.TUN.Inject(good)
		b.wants(good)
		a.in(func(acq *acquirer) {
			if len(acq.asking)+len(acq.attempts)+len(acq.pending)+acq.holds.total != 0 {
				t.Errorf("left over: %v %v", acq.asking, acq.attempts)
			}
		})
	})
}

// lines counts what is logged, by message.
type lines map[string]int

func (l lines) Enabled(context.Context, slog.Level) bool { return true }
func (l lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l lines) WithGroup(string) slog.Handler            { return l }
func (l lines) Handle(_ context.Context, r slog.Record) error {
	l[r.Message]++
	return nil
}

// TestScanIsNotLogged: a scan of denied ports writes a bounded number of lines, and one a second that counts the rest.
func TestScanIsNotLogged(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, seen := w.stations["a"], w.stations["b"], lines{}
		a.in(func(acq *acquirer) { acq.log = slog.New(seen) })
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Denied) })
		for port := range uint16(1000) {
			a.host.TUN.Inject(datagram(a, b, 1+port, "scan"))
			time.Sleep(10 * time.Millisecond)
		}
		w.kdcs[0].set(func(s *script) { s.decide = nil })
		a.received()
		w.connect("b", "a")
		a.in(func(*acquirer) {
			total := 0
			for _, n := range seen {
				total += n
			}
			if limit := stepBurst + 11*stepRate + 11 + 5; total > limit || seen["holding a packet"] == 0 {
				t.Errorf("%d lines, want at most %d: %v", total, limit, seen)
			}
			if n := seen["suppressed lines about acquisitions"]; n < 5 || n > 11 {
				t.Errorf("%d lines count the suppressed", n)
			}
			if seen["installed a session"] != 1 || seen["session confirmed"] != 1 {
				t.Errorf("a rare line is suppressed: %v", seen)
			}
		})
	})
}
