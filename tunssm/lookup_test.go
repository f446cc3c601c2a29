package tunssm

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// answering makes the KDC answer each Lookup.
func (c *center) answering(answer control.LookupReply) {
	c.set(func(s *script) {
		s.reply = func(l *line, e control.Envelope) bool {
			if e.Message.Type() == control.TypeLookup {
				l.conn.Send(e.ID, &answer)
			}
			return false
		}
	})
}

// TestLookupAsksAnother: a KDC that is silent, that goes, or whose answer is its own alone, is not the last word.
func TestLookupAsksAnother(t *testing.T) {
	final := control.LookupReply{Peer: "b", Reason: control.Denied}
	for name, tc := range map[string]struct {
		first func(c *center)
		took  time.Duration
	}{
		"healthy":  {func(c *center) { c.answering(final) }, 0},
		"detached": {func(c *center) { c.answering(control.LookupReply{Reason: control.Detached}) }, 0},
		"offline":  {func(c *center) { c.answering(control.LookupReply{Peer: "b", Reason: control.Offline}) }, 0},
		"silent":   {func(*center) {}, control.RequestTimeout},
		"gone": {func(c *center) {
			c.set(func(s *script) {
				s.reply = func(l *line, e control.Envelope) bool {
					if e.Message.Type() == control.TypeLookup {
						l.conn.Close()
					}
					return false
				}
			})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 2, []string{"a"}, func(t *testing.T, w *world) {
				tc.first(w.kdcs[0])
				w.kdcs[1].answering(final)
				a, began := w.stations["a"], time.Now()
				got, err := a.lookup(t.Context(), &control.Lookup{Name: "b"})
				if err != nil || got.Peer != "b" || got.Reason != control.Denied || time.Since(began) != tc.took {
					t.Errorf("%+v, %v after %v", got, err, time.Since(began))
				}
				a.in(func(acq *acquirer) {
					if len(acq.lookups) > 0 {
						t.Errorf("%d lookups are kept", len(acq.lookups))
					}
				})
			})
		})
	}
}

// TestLookupUnanswered: where nobody answers that is said in bounded time; the last word of those that did stands.
func TestLookupUnanswered(t *testing.T) {
	inWorld(t, 2, []string{"a"}, func(t *testing.T, w *world) {
		a, began := w.stations["a"], time.Now()
		got, err := a.lookup(t.Context(), &control.Lookup{Name: "b"})
		if err != nil || got.Reason != control.NoKDC || time.Since(began) != 2*control.RequestTimeout {
			t.Errorf("%+v, %v after %v", got, err, time.Since(began))
		}
		w.kdcs[0].answering(control.LookupReply{Peer: "b", Reason: control.Offline})
		if got, err := a.lookup(t.Context(), &control.Lookup{Name: "b"}); err != nil || got.Reason != control.Offline {
			t.Errorf("%+v, %v", got, err)
		}
		w.kdcs[0].answering(control.LookupReply{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.lookup(ctx, &control.Lookup{Name: "b"}); !errors.Is(err, context.Canceled) {
			t.Errorf("its caller has gone: %v", err)
		}
	})
}

// TestLookupEnds with the SSM, and an answer to nothing changes nothing.
func TestLookupEnds(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		w.kdcs[0].tell("a", &control.LookupReply{Peer: "b"})
		a := w.stations["a"]
		failed := make(chan error)
		go func() {
			_, err := a.lookup(context.Background(), &control.Lookup{Name: "b"})
			failed <- err
		}()
		synctest.Wait()
		a.stop()
		if err := <-failed; !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
	})
}
