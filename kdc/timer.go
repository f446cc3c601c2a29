package kdc

import (
	"sync"
	"time"
)

// timers are deadlines that Serve ends, and waits for, when it returns.
type timers struct {
	running *sync.WaitGroup
	mu      sync.Mutex
	set     map[*timer]struct{} // nil once all have been stopped
}

type timer struct {
	of *timers
	t  *time.Timer
}

// after calls f in d, unless the timer is stopped before or Serve ends.
func (k *KDC) after(d time.Duration, f func()) *timer {
	ts := &k.timers
	t := &timer{of: ts}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.set == nil {
		return t
	}
	ts.running.Add(1)
	ts.set[t] = struct{}{}
	t.t = time.AfterFunc(d, func() {
		defer ts.running.Done()
		ts.forget(t)
		f()
	})
	return t
}

func (ts *timers) forget(t *timer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.set, t)
}

func (t *timer) stop() {
	if t.t != nil && t.t.Stop() {
		t.of.forget(t)
		t.of.running.Done()
	}
}

func (ts *timers) stopAll() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for t := range ts.set {
		if t.t.Stop() {
			ts.running.Done()
		}
	}
	ts.set = nil
}
