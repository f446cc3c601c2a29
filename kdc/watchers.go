package kdc

import (
	"context"
	"fmt"
	"iter"
	"time"

	"ssmnet/packet/control"
)

const (
	maxWatchers = 32
	maxEvents   = 1024 // that wait for one watcher; it is told how many more there were
)

// SessionEventKind says what has become of a session. Programs read it: append only.
type SessionEventKind string

const (
	SessionLive     SessionEventKind = "live"     // it was there when the watch began; its time is that of its opening
	SessionOpened   SessionEventKind = "opened"   // granted, or reported by its ends
	SessionNarrowed SessionEventKind = "narrowed" // policy permits less of it; its ends are being told
	SessionRevoked  SessionEventKind = "revoked"  // by an operator or by policy; its ends are being told
	SessionClosed   SessionEventKind = "closed"   // its ends have destroyed it
	EventsMissed    SessionEventKind = "missed"   // the reader was too slow for some events, which are lost to it
)

// SessionEvent is one line of WatchSessions.
type SessionEvent struct {
	Time      time.Time         `json:"time"`
	Event     SessionEventKind  `json:"event"`
	Session   control.SessionID `json:"session,omitzero"`
	Requester string            `json:"requester,omitempty"`
	Responder string            `json:"responder,omitempty"`
	Reason    string            `json:"reason,omitempty"` // of a revocation
	Missed    uint64            `json:"missed,omitempty"` // how many events
}

// watcher is an operator who follows sessions as they come and go. All of it is under KDC.mu.
type watcher struct {
	filter SessionFilter
	events []SessionEvent
	missed uint64
	wake   chan struct{} // one slot
}

// WatchSessions gives the sessions that the filter chooses, with none set all: first those that are live, as Sessions
// lists them, and then what becomes of sessions, as it happens. A reader who is too slow misses events, and is told how
// many; the KDC never waits for one. It ends with ctx, or with Serve. ErrTooMany: so many are watching already.
func (k *KDC) WatchSessions(ctx context.Context, f SessionFilter) (iter.Seq[SessionEvent], error) {
	if err := k.isServing(); err != nil {
		return nil, err
	}
	w := &watcher{filter: f, wake: make(chan struct{}, 1)}
	k.mu.Lock()
	if len(k.watchers) >= maxWatchers {
		k.mu.Unlock()
		return nil, fmt.Errorf("%w watch sessions: at most %d do at a time", ErrTooMany, maxWatchers)
	}
	k.watchers[w] = struct{}{}
	found := k.find(f)
	k.mu.Unlock()
	context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers, w)
	})
	return func(yield func(SessionEvent) bool) {
		for _, s := range inOrder(found) {
			e := SessionEvent{
				Time: s.Since, Event: SessionLive, Session: s.ID, Requester: s.Requester, Responder: s.Responder,
			}
			if !yield(e) {
				return
			}
		}
		found = nil
		k.yieldEvents(ctx, w, yield)
	}, nil
}

// yieldEvents passes on what the watcher is told.
func (k *KDC) yieldEvents(ctx context.Context, w *watcher, yield func(SessionEvent) bool) {
	for {
		for _, e := range k.takeEvents(w) {
			if !yield(e) {
				return
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		case <-k.stopped:
			return
		}
	}
}

// takeEvents gives what waits for a watcher.
func (k *KDC) takeEvents(w *watcher) []SessionEvent {
	k.mu.Lock()
	defer k.mu.Unlock()
	events := w.events
	if w.missed > 0 {
		events = append(events, SessionEvent{Time: k.now().UTC(), Event: EventsMissed, Missed: w.missed})
	}
	w.events, w.missed = nil, 0
	return events
}

// tellWatchers says what has become of a session, and why, where there is a reason. k.mu is held.
func (k *KDC) tellWatchers(what SessionEventKind, s *session, reason control.Reason) {
	if len(k.watchers) == 0 {
		return
	}
	e := SessionEvent{
		Time: k.now().UTC(), Event: what, Session: s.id, Requester: s.sides[0].peer, Responder: s.sides[1].peer,
	}
	if reason != 0 {
		e.Reason = reason.String()
	}
	for w := range k.watchers {
		switch {
		case !w.filter.chosen(s):
			continue
		case len(w.events) < maxEvents:
			w.events = append(w.events, e)
		default:
			w.missed++
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
