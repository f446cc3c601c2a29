package tunssm

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// pausing calls f at each line with this message, after a moment in which what has been sent arrives.
type pausing struct {
	slog.Handler
	at string
	f  func()
}

func (p pausing) Enabled(context.Context, slog.Level) bool { return true }

func (p pausing) Handle(_ context.Context, r slog.Record) error {
	if r.Message == p.at {
		time.Sleep(time.Millisecond)
		p.f()
	}
	return nil
}

// TestReceiptsComeLast: no receipt is given for what is yet to be done. Where it is logged it has been done.
func TestReceiptsComeLast(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		order      func(w *world, s *session) control.Message
		receipts   func(kdc *center) int
	}{
		{"revoke", "destroyed a session", func(_ *world, s *session) control.Message {
			return &control.Revoke{Sessions: []control.SessionID{s.id}, Reason: control.Operator}
		}, func(kdc *center) int { return len(heard[*control.RevokeAck](kdc, "a")) }},
		{"narrow", "narrowed a session", func(w *world, s *session) control.Message {
			return &control.Narrow{
				Session: s.id, AsOf: control.AsOf{Epoch: 1, Revision: 2},
				Selectors: toPorts(w.stations["a"], w.stations["b"], packet.UDP, 9),
			}
		}, func(kdc *center) int { return len(heard[*control.NarrowAck](kdc, "a")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				s, _ := w.connect("a", "b")
				a, kdc, early := w.stations["a"], w.kdcs[0], -1
				a.in(func(acq *acquirer) {
					acq.log = slog.New(pausing{slog.DiscardHandler, tt.line, func() { early = tt.receipts(kdc) }})
				})
				kdc.tell("a", tt.order(w, s))
				time.Sleep(time.Second)
				synctest.Wait()
				a.in(func(*acquirer) {
					if n := tt.receipts(kdc); early != 0 || n != 1 {
						t.Errorf("%d receipts before it was done, %d at the end", early, n)
					}
				})
			})
		})
	}
}

// TestNarrowIsSeen: the state that a Narrow was decided under counts among those seen, whether the session is there or not.
func TestNarrowIsSeen(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		newer := control.AsOf{Epoch: 2, Revision: 1}
		w.kdcs[0].tell("a", &control.Narrow{Session: control.NewSessionID(), AsOf: newer})
		if got := w.stations["a"].status().AsOf; got != newer {
			t.Errorf("seen %v, want %v", got, newer)
		}
	})
}

// TestAcceptComesLast: a responder accepts what it has installed, so that the first frame finds its SPI.
func TestAcceptComesLast(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		kdc, early := w.kdcs[0], -1
		kdc.set(func(s *script) {
			s.terms = func(x *control.Terms) { x.Until = time.Now().Add(time.Hour).Unix() }
		})
		w.stations["b"].in(func(acq *acquirer) {
			acq.now = func() time.Time { // asked for while the session is installed
				time.Sleep(time.Millisecond)
				if early < 0 {
					early = len(heard[*control.KeyAccept](kdc, "b"))
				}
				return time.Now()
			}
		})
		a, b := w.stations["a"], w.stations["b"]
		pkt := datagram(a, b, 9, "first")
		a.host.TUN.Inject(pkt)
		time.Sleep(10 * time.Millisecond)
		b.wants(pkt)
		b.in(func(*acquirer) {
			if early != 0 {
				t.Errorf("%d accepts before it was installed", early)
			}
		})
	})
}
