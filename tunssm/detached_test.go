package tunssm

import (
	"testing"
	"time"

	"ssmnet/packet/control"
)

// TestDetachedIsNoContact: a KDC that is cut off from its store gives no grace, however well it answers.
func TestDetachedIsNoContact(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		kdc, a := w.kdcs[0], w.stations["a"]
		kdc.set(func(s *script) { s.terms = func(x *control.Terms) { x.GraceMillis = 60_000 } })
		w.connect("a", "b")
		kdc.set(func(s *script) {
			s.reply = func(l *line, e control.Envelope) bool {
				_, ping := e.Message.(*control.Ping)
				return ping && l.conn.Send(e.ID, &control.Pong{Detached: true}) == nil
			}
		})
		kdc.tell("a", &control.Pong{Detached: true})
		alive := func(want bool) {
			t.Helper()
			if n := len(a.sessions("b")); n == 1 != want {
				t.Fatalf("%d sessions", n)
			}
		}
		for range 58 {
			w.send("a", "b", "x")
			time.Sleep(time.Second)
		}
		alive(true)
		time.Sleep(4 * time.Second)
		alive(false)
	})
}
