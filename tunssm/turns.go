package tunssm

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Any local program can send to every address that there could be, and each wants a request of its own. Destinations that
// a grant has been given for in this run are familiar: they are asked for at once, and have half of the room for held
// packets, there and on the way there, to themselves. The others are asked for at a rate that leaves the acquirer, and
// what the KDC takes from one peer, to those; above it they wait for their turn, in order, and beyond that are dropped.
const (
	strangeRate  = 1000
	strangeBurst = 250
	maxTurns     = 2000 // destinations that wait: for two seconds at most
	turnPause    = 10 * time.Millisecond
	maxFamiliar  = 4096

	maxHeldStrange = maxHeldTotal / 2 // bytes held, where the newest is for a strange destination
)

// turns belong to the acquirer.
type turns struct {
	limit   *rate.Limiter
	waiting []netip.Addr
	due     bool // a timer is set
}

func newTurns() turns { return turns{limit: rate.NewLimiter(strangeRate, strangeBurst)} }

// familiar are destinations that a grant was for. Any goroutine may use it.
type familiar struct {
	mu           sync.RWMutex
	destinations map[netip.Addr]struct{}
}

func (f *familiar) knows(dst netip.Addr) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	_, ok := f.destinations[dst]
	return ok
}

// meet makes a destination familiar.
func (f *familiar) meet(dst netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.destinations == nil {
		f.destinations = map[netip.Addr]struct{}{}
	}
	if _, ok := f.destinations[dst]; !ok && len(f.destinations) >= maxFamiliar {
		for old := range f.destinations { // any one: it is strange again, no more
			delete(f.destinations, old)
			break
		}
	}
	f.destinations[dst] = struct{}{}
}

// crowded says that a packet for a strange destination cannot be held: there is no room, or too many are before it.
func (a *acquirer) crowded(dst netip.Addr) bool {
	return !a.familiar.knows(dst) && (a.holds.total >= maxHeldStrange || len(a.turns.waiting) >= maxTurns)
}

// askInTurn asks for what is held for dst, at once or in its turn.
func (a *acquirer) askInTurn(dst netip.Addr) {
	if a.familiar.knows(dst) || len(a.turns.waiting) == 0 && a.turns.limit.Allow() {
		a.askFor(dst, 1)
		return
	}
	a.turns.waiting = append(a.turns.waiting, dst)
	a.takeTurns()
}

// takeTurns asks for those whose turn it is, as long as any wait.
func (a *acquirer) takeTurns() {
	t := &a.turns
	if t.due || len(t.waiting) == 0 {
		return
	}
	t.due = true
	a.timers.after(turnPause, func() {
		t.due = false
		for len(t.waiting) > 0 && t.limit.Allow() {
			dst := t.waiting[0]
			t.waiting = t.waiting[1:]
			a.askFor(dst, 1)
		}
		a.takeTurns()
	})
}
