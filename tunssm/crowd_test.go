package tunssm

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/tunssm/fake"
)

// crowd runs f while the acquirer is busy and takes no more events.
func (s *station) crowd(f func(acq *acquirer)) {
	s.t.Helper()
	s.in(func(acq *acquirer) {
		for acq.atOnce(func(*acquirer) {}) {
		}
		f(acq)
	})
}

// TestConfirmedInCrowd: inbound goes on where the acquirer cannot be told that a session is confirmed, and the session is.
func TestConfirmedInCrowd(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a, b, 9, "lost"))
		synctest.Wait()
		s := b.sessions("a")[0]
		b.crowd(func(*acquirer) {
			w.net.SetRule(nil)
			a.host.TUN.Inject(datagram(a, b, 9, "first"))
			a.host.TUN.Inject(datagram(a, b, 9, "second"))
			if n := len(b.received()); n != 2 {
				t.Errorf("b receives %d packets, want 2", n)
			}
			if s.heardAt() == 0 || s.state != provisional {
				t.Errorf("the session is %v", s.state)
			}
		})
		time.Sleep(tendInterval)
		if b.sending("a") != s {
			t.Error("the session is not confirmed")
		}
	})
}

// TestClosedInCrowd: so it is where a session is closed.
func TestClosedInCrowd(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		x, y := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		b.crowd(func(*acquirer) {
			a.data.sendProbe(x, packet.ProbeMessage{Kind: packet.Close}, b.host.UDP.Addr())
			a.host.TUN.Inject(datagram(a, b, 9, "on the way"))
			if n := len(b.received()); n != 1 {
				t.Errorf("b receives %d packets, want 1", n)
			}
			if y.state == destroyed {
				t.Error("the acquirer was told")
			}
		})
		time.Sleep(tendInterval)
		if got := b.state(y); got != destroyed {
			t.Errorf("the session is %v", got)
		}
	})
}

// TestReplyInCrowd: a reply that the acquirer cannot be told of is lost, and nothing else.
func TestReplyInCrowd(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		a.crowd(func(acq *acquirer) {
			p := &ping{peer: "b", done: make(chan error, 1)}
			acq.ping(p)
			synctest.Wait()
			b.host.TUN.Inject(datagram(b, a, 9, "next"))
			if n := len(a.received()); n != 1 {
				t.Errorf("a receives %d packets, want 1", n)
			}
			acq.pings.forget(p)
		})
	})
}
