package admin

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"ssmnet/kdc"
)

// slow is a KDC that takes a while to answer, longer than its server waits for requests.
type slow struct{ fake }

const (
	readTimeout = 50 * time.Millisecond
	answersIn   = 4 * readTimeout
)

func (s *slow) pause(ctx context.Context) error {
	select {
	case <-time.After(answersIn):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) RevokeSessions(ctx context.Context, _ kdc.SessionFilter, _ time.Duration) ([]kdc.Receipt, error) {
	return acked, s.pause(ctx)
}

func (s *slow) WatchSessions(ctx context.Context, _ kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error) {
	return func(yield func(kdc.SessionEvent) bool) {
		for s.pause(ctx) == nil && yield(kdc.SessionEvent{Event: kdc.SessionOpened, Session: session}) {
		}
	}, nil
}

// TestLongAnswers: a revocation may wait, and a watch go on, for longer than a request may take to be read.
func TestLongAnswers(t *testing.T) {
	c, _ := serveWithin(t, Handler(&slow{}), readTimeout)
	if rs, err := c.RevokeSessions(t.Context(), kdc.SessionFilter{All: true}, time.Minute); err != nil ||
		!slices.Equal(rs, acked) {
		t.Errorf("receipts %v, %v", rs, err)
	}
	events, err := c.WatchSessions(t.Context(), kdc.SessionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range events {
		if n++; e.Session != session || n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// TestWatchCrosses: every event arrives as it was, a refusal as the error that it is, and the end of either side ends
// the watch.
func TestWatchCrosses(t *testing.T) {
	want := []kdc.SessionEvent{
		{Time: when, Event: kdc.SessionLive, Session: session, Requester: "ana", Responder: "bo"},
		{Time: when, Event: kdc.SessionRevoked, Session: session, Requester: "ana", Responder: "bo", Reason: "operator"},
		{Time: when, Event: kdc.EventsMissed, Missed: 7},
	}
	f := &fake{answer: want}
	c := serve(t, Handler(f))
	events, err := c.WatchSessions(t.Context(), kdc.SessionFilter{Peer: "ana"})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(events); !slices.Equal(got, want) || f.args[0] != (kdc.SessionFilter{Peer: "ana"}) {
		t.Errorf("asked %s, given %+v", f.said(), got)
	}
	f.err = kdc.ErrTooMany
	if _, err := c.WatchSessions(t.Context(), kdc.SessionFilter{}); !errors.Is(err, kdc.ErrTooMany) {
		t.Errorf("one watcher too many: %v", err)
	}

	c, s := serveWithin(t, Handler(&slow{}), readTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err = c.WatchSessions(ctx, kdc.SessionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for range events {
		cancel()
	}
	events, err = c.WatchSessions(t.Context(), kdc.SessionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for range events {
		s.CloseClientConnections()
	}
}
