package tunssm

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/fake"
)

// TestManyUnprovenSessions: sessions that are never confirmed push out one another, and not the one that is sent on.
func TestManyUnprovenSessions(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		x, y := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(fake.Drop)
		for range maxPerPeer + 5 {
			a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			synctest.Wait()
		}
		w.net.SetRule(nil)
		if n := len(a.sessions("b")); n != maxPerPeer || a.sending("b") != x || b.sending("a") != y {
			t.Fatalf("of %d sessions neither side sends on the first", n)
		}
		pkt := datagram(a, b, 9, "on the first")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
	})
}

// TestDestroyErases: what was allocated for the keys of a session is collected, and so erased, once it has ended.
func TestDestroyErases(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		w.stations["a"].in(func(acq *acquirer) {
			var due []time.Duration
			acq.eraser = secret.NewEraser(func(d time.Duration, _ func()) { due = append(due, d) })
			acq.destroy(s, "test")
			if !slices.Equal(due, []time.Duration{time.Second}) {
				t.Errorf("erased after %v", due)
			}
		})
	})
}

// TestEndDestroysKeys: when Run returns, the permanent keys are gone, the one that is to come too.
func TestEndDestroysKeys(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.kdcs[0].tell("a", &control.RotateKey{KeyID: control.NewKeyID(), Key: secret.NewKey().Bytes()})
		synctest.Wait()
		next := a.acq.keys.next.Copy()
		a.end()
		if k := a.acq.keys; next.IsZero() || !k.current.IsZero() || !k.next.IsZero() {
			t.Errorf("kept: current %v, next %v of %v", !k.current.IsZero(), !k.next.IsZero(), !next.IsZero())
		}
	})
}
