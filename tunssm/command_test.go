package tunssm

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestOperatorRekeys: another session takes over, without loss, as often as asked.
func TestOperatorRekeys(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		if err := a.Rekey("b"); !errors.Is(err, ErrNotFound) {
			t.Fatalf("no session: %v", err)
		}
		before, _ := w.connect("a", "b")
		for range 3 {
			if err := a.Rekey("b"); err != nil {
				t.Fatal(err)
			}
			w.send("a", "b", "meanwhile")
			time.Sleep(time.Second)
			now := a.sending("b")
			if now == before {
				t.Fatal("the same session goes on")
			}
			before = now
		}
	})
}

// TestOperatorCloses: both sides lose the session, and the next packet makes another.
func TestOperatorCloses(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		before, _ := w.connect("a", "b")
		if err := b.CloseSession("a"); err != nil {
			t.Fatal(err)
		}
		if b.sending("a") != nil {
			t.Error("the closing side still sends on it")
		}
		time.Sleep(closeLinger)
		synctest.Wait()
		if len(a.sessions("b")) != 0 || len(b.sessions("a")) != 0 {
			t.Error("a side keeps the session")
		}
		if now, _ := w.connect("a", "b"); now.id == before.id {
			t.Error("the closed session lives")
		}
		if err := a.CloseSession("nobody"); !errors.Is(err, ErrNotFound) {
			t.Errorf("no session: %v", err)
		}
	})
}
