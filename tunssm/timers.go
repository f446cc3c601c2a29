package tunssm

import (
	"container/heap"
	"time"
)

// timers is the acquirer's agenda: one runtime timer for all, and the functions run on the acquirer's goroutine.
type timers struct {
	agenda agenda
	next   *time.Timer
}

type timer struct {
	when  time.Time
	run   func() // nil once cancelled
	index int
}

func newTimers() *timers {
	t := &timers{next: time.NewTimer(time.Hour)}
	t.next.Stop()
	return t
}

// after runs f once d has passed, unless cancelled.
func (t *timers) after(d time.Duration, f func()) *timer {
	e := &timer{when: time.Now().Add(d), run: f}
	heap.Push(&t.agenda, e)
	if e.index == 0 {
		t.arm()
	}
	return e
}

// cancel is harmless where e has run, is cancelled or is nil.
func (t *timers) cancel(e *timer) {
	if e == nil || e.run == nil {
		return
	}
	e.run = nil
	heap.Remove(&t.agenda, e.index)
}

// expire runs what is due.
func (t *timers) expire() {
	now := time.Now()
	for len(t.agenda) > 0 && !t.agenda[0].when.After(now) {
		e := heap.Pop(&t.agenda).(*timer)
		run := e.run
		e.run = nil
		run()
	}
	t.arm()
}

func (t *timers) arm() {
	if len(t.agenda) > 0 {
		t.next.Reset(time.Until(t.agenda[0].when))
	}
}

// agenda is a heap by time (container/heap).
type agenda []*timer

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].when.Before(a[j].when) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i]; a[i].index, a[j].index = i, j }
func (a *agenda) Push(x any)        { e := x.(*timer); e.index = len(*a); *a = append(*a, e) }
func (a *agenda) Pop() any {
	old := *a
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*a = old[:len(old)-1]
	return e
}
