package tunssm

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestTotalsOutliveSessions: what was carried stays counted when its session is destroyed, and never counts twice.
func TestTotalsOutliveSessions(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		const rounds = 3
		pkt := datagram(a, b, 9, "counted")
		for round := range rounds {
			s, _ := w.connect("a", "b")
			sent, received := a.status().Tx.Packets, b.status().Rx.Packets
			a.host.TUN.Inject(pkt)
			<-b.host.TUN.Packets()
			synctest.Wait()
			check := func(when string) {
				t.Helper()
				if tx, rx := a.status().Tx, b.status().Rx; tx.Packets != sent+1 || rx.Packets != received+1 || tx.Last.IsZero() {
					t.Fatalf("round %d, %s: sent %+v after %d, received %+v after %d", round, when, tx, sent, rx, received)
				}
			}
			check("in the session")
			for _, name := range []string{"a", "b"} {
				w.kdcs[0].tell(name, &control.Revoke{Sessions: []control.SessionID{s.id}, Reason: control.Operator})
			}
			synctest.Wait()
			if n := len(a.status().Sessions) + len(b.status().Sessions); n != 0 {
				t.Fatalf("%d sessions live on", n)
			}
			check("after the session")
			time.Sleep(time.Second)
		}
		if tx := a.status().Tx; tx.Packets < rounds || tx.Bytes < uint64(rounds*len(pkt)) {
			t.Errorf("sent %+v in %d rounds of %d bytes", tx, rounds, len(pkt))
		}
	})
}
