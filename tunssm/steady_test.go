package tunssm

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestSteady: a KDC whose answer is overdue is pinged, and a few times more once it has come, each time when the ping
// before is answered; one that answers in time is left alone.
func TestSteady(t *testing.T) {
	pings := func(c *center) int { return len(heard[*control.Ping](c, "a")) }
	for _, tt := range []struct {
		name  string
		after func(w *world)
		want  int
	}{
		{"prompt grant", func(w *world) { w.connect("a", "b") }, 0},
		{"late grant", func(w *world) {
			w.kdcs[0].set(func(s *script) { s.hold = true })
			w.stations["a"].host.TUN.Inject(datagram(w.stations["a"], w.stations["b"], 9, "late"))
			synctest.Wait()
			time.Sleep(lateAfter * 3 / 2)
			w.kdcs[0].release()
		}, 1 + steadyPings}, // the first while it was overdue
		{"ping of a KDC", func(w *world) { w.kdcs[0].tell("a", &control.Ping{}) }, steadyPings},
		{"revocation", func(w *world) {
			w.kdcs[0].tell("a", &control.Revoke{Sessions: []control.SessionID{{1}}, Reason: control.Operator})
		}, 1},
		{"answer to no ping", func(w *world) { w.kdcs[0].tell("a", &control.Pong{}) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				tt.after(w)
				time.Sleep(control.PingInterval / 3)
				if n := pings(w.kdcs[0]); n != tt.want {
					t.Errorf("%d pings, want %d", n, tt.want)
				}
			})
		})
	}
	t.Run("late pong", func(t *testing.T) {
		inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
			kdc := w.kdcs[0]
			kdc.set(func(s *script) {
				s.reply = func(_ *line, e control.Envelope) bool { return e.Message.Type() == control.TypePing }
			})
			time.Sleep(control.PingInterval + lateAfter)
			kdc.set(func(s *script) { s.reply = nil })
			first := pings(kdc)
			kdc.tell("a", &control.Pong{})
			time.Sleep(control.PingInterval / 3)
			if n := pings(kdc) - first; n != steadyPings {
				t.Errorf("%d pings after a late pong, want %d", n, steadyPings)
			}
		})
	})
}
