package kdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// watchSessions collects the events of a watch until it ends.
func (c *center) watchSessions(ctx context.Context, f SessionFilter) (func() []SessionEvent, chan struct{}) {
	c.t.Helper()
	seq, err := c.WatchSessions(ctx, f)
	if err != nil {
		c.t.Fatal(err)
	}
	var all []SessionEvent
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for e := range seq {
			all = append(all, e)
		}
	}()
	return func() []SessionEvent {
		synctest.Wait()
		taken := all
		all = nil
		return taken
	}, ended
}

// told is what a test looks at of events.
func told(events []SessionEvent) (lines []string) {
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%s %s %s>%s %s", e.Event, e.Session, e.Requester, e.Responder, e.Reason))
	}
	return lines
}

// TestWatchSessions: a watcher sees what is live, and then each session come and go, why, and when by the wall clock.
func TestWatchSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.add(NewPeer{Name: "c"})
		p.wall.set(decade)
		first := acquire(p.a, p.b).Session
		time.Sleep(time.Second)
		second := acquire(p.a, p.b).Session
		ctx, cancel := context.WithCancel(t.Context())
		events, ended := p.watchSessions(ctx, SessionFilter{Peer: "a"})
		others, _ := p.watchSessions(ctx, SessionFilter{Peer: "c"})
		expect := func(want ...string) {
			t.Helper()
			got := events()
			for _, e := range got {
				if e.Event != SessionLive && !e.Time.Equal(time.Now().Add(decade).Round(0)) {
					t.Errorf("%s at %s", e.Event, e.Time)
				}
			}
			if lines := told(got); !slices.Equal(lines, want) {
				t.Errorf("told\n%q\nwant\n%q", lines, want)
			}
		}
		expect(fmt.Sprintf("live %s a>b ", first), fmt.Sprintf("live %s a>b ", second))
		third := acquire(p.a, p.b).Session
		expect(fmt.Sprintf("opened %s a>b ", third))
		for _, m := range []*module{p.a, p.b} {
			m.send(0, &control.SessionReport{Closed: []control.SessionID{first}})
		}
		expect(fmt.Sprintf("closed %s a>b ", first))
		p.apply(onlyPing)
		if got := told(events()); len(got) != 2 || !slices.Contains(got, fmt.Sprintf("narrowed %s a>b ", second)) {
			t.Errorf("told %q of a narrower policy", got)
		}
		if _, err := p.RevokeSessions(t.Context(), SessionFilter{ID: second}, 0); err != nil {
			t.Fatal(err)
		}
		expect(fmt.Sprintf("revoked %s a>b %s", second, control.Operator))
		if got := others(); len(got) > 0 {
			t.Errorf("who asked for others is told %v", got)
		}
		cancel()
		<-ended
		synctest.Wait()
		if len(p.watchers) != 0 {
			t.Errorf("%d watchers after they have gone", len(p.watchers))
		}
	})
}

// TestSlowWatcher: one that does not read holds up nobody, costs a bounded number of events, and is told how many it
// missed where they are missing.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		seq, err := p.WatchSessions(t.Context(), SessionFilter{})
		if err != nil {
			t.Fatal(err)
		}
		const more = 100
		s := &session{id: control.NewSessionID(), sides: [2]side{{peer: "a"}, {peer: "b"}}, by: "a"}
		for range (maxEvents + more) / 2 {
			p.mu.Lock()
			p.addSession(s)
			s.sides[0].hold, s.sides[1].hold = closed, holds
			p.letGo(s, &s.sides[1], closes)
			p.mu.Unlock()
		}
		n := 0
		for e := range seq {
			if n++; n == maxEvents/2 { // while it reads
				p.mu.Lock()
				p.addSession(s)
				p.mu.Unlock()
			}
			if e.Event == EventsMissed {
				if n != maxEvents+1 || e.Missed != more {
					t.Errorf("told of %d missed as event %d", e.Missed, n)
				}
			}
			if n == maxEvents+2 {
				if e.Event != SessionOpened {
					t.Errorf("after what was missed comes %s", e.Event)
				}
				break
			}
		}
	})
}

// TestWatchersAreFew: there are only so many, and a watch ends with the KDC.
func TestWatchersAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		var all []chan struct{}
		for range maxWatchers {
			_, ended := c.watchSessions(t.Context(), SessionFilter{})
			all = append(all, ended)
		}
		if _, err := c.WatchSessions(t.Context(), SessionFilter{}); !errors.Is(err, ErrTooMany) {
			t.Errorf("one too many: %v", err)
		}
		c.stop()
		for _, ended := range all {
			<-ended
		}
		if _, err := c.WatchSessions(t.Context(), SessionFilter{}); !errors.Is(err, ErrNotServing) {
			t.Errorf("of a KDC that has ended: %v", err)
		}
	})
}
