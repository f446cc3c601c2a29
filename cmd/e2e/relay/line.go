package relay

import (
	"math/rand/v2"
	"time"
)

// Line decides what happens to the packets of one direction. It is pure: the time is given, nothing waits. One
// goroutine owns it.
type Line struct {
	rng  *rand.Rand
	seed [2]uint64     // of knot
	free time.Duration // when the limited rate has sent all that it has accepted
	last time.Duration // when the latest packet in order arrives
}

// NewLine makes a Line. Lines of the same seed and number throw the same dice.
func NewLine(seed, number uint64) *Line {
	rng := rand.New(rand.NewPCG(seed, number))
	return &Line{rng: rng, seed: [2]uint64{rng.Uint64(), rng.Uint64()}}
}

// Drop is why a packet does not arrive.
type Drop uint8

// Kept is no drop: the packet arrives at least once.
const (
	Kept     Drop = iota
	Lost          // by Settings.Loss
	Blackout      // by Settings.Blackout
	Overrun       // the queue was full
)

// Fate is what happens to one packet.
type Fate struct {
	Drop   Drop
	N      int // copies that arrive: 0 to 2
	Copies [2]Copy
}

// Copy is one arrival of a packet.
type Copy struct {
	At        time.Duration // on the clock of Decide's now; never before now
	Corrupted bool
	Noise     uint64 // what corrupts it
	Reordered bool
}

// dice are thrown anew for each packet, all of them.
type dice struct {
	loss, duplicate float64
	copies          [2]struct {
		corrupt, reorder float64
		noise            uint64
	}
}

func (l *Line) throw() (d dice) {
	d.loss, d.duplicate = l.rng.Float64(), l.rng.Float64()
	for i := range d.copies {
		c := &d.copies[i]
		c.corrupt, c.reorder, c.noise = l.rng.Float64(), l.rng.Float64(), l.rng.Uint64()
	}
	return d
}

// Decide gives the fate of a packet of length bytes that comes in now. Calls come with times that do not go back; s has
// passed Check.
func (l *Line) Decide(s *Settings, now time.Duration, length int) (f Fate) {
	d := l.throw()
	switch {
	case s.Blackout:
		f.Drop = Blackout
		return f
	case d.loss < s.Loss:
		f.Drop = Lost
		return f
	}
	copies := 1
	if d.duplicate < s.Duplicate {
		copies = 2
	}
	for _, die := range d.copies[:copies] {
		sent, fits := l.transmit(s, now, length)
		if !fits {
			break
		}
		c := Copy{Corrupted: die.corrupt < s.Corrupt, Noise: die.noise, Reordered: die.reorder < s.Reorder}
		c.At = l.propagate(s, sent, c.Reordered)
		f.Copies[f.N] = c
		f.N++
	}
	if f.N == 0 {
		f.Drop = Overrun
	}
	return f
}

// transmit takes a packet through the bottleneck: when its last bit has left it, or false where the queue is full. The
// queue is counted in bytes not yet sent, the packet in transmission included.
func (l *Line) transmit(s *Settings, now time.Duration, length int) (sent time.Duration, fits bool) {
	if s.Rate == 0 {
		return now, true
	}
	start := max(now, l.free)
	waiting := (start - now).Seconds() * s.Rate / 8
	if start > now && waiting+float64(length) > float64(s.queue()) {
		return 0, false
	}
	l.free = start + time.Duration(float64(length)*8/s.Rate*float64(time.Second))
	return l.free, true
}

// propagate adds the delay: when a packet arrives that left the bottleneck at sent.
func (l *Line) propagate(s *Settings, sent time.Duration, reordered bool) time.Duration {
	at := max(sent+s.Delay+l.wander(sent, s.Jitter), l.last)
	if reordered {
		return at + s.ReorderBy // l.last stays: whoever comes next may overtake
	}
	l.last = at
	return at
}

// wander is how much the delay is off at a time: up to jitter, up or down. It goes straight from one random value to
// the next, which is four times jitter later, and so falls at most half as fast as time goes by: no packet catches up
// with the one before. Were each packet's delay drawn for itself and order kept, all would take as long as the slowest.
func (l *Line) wander(at, jitter time.Duration) time.Duration {
	if jitter == 0 {
		return 0
	}
	leg := 4 * jitter
	from, to := l.knot(at/leg), l.knot(at/leg+1)
	return time.Duration((from + (to-from)*float64(at%leg)/float64(leg)) * float64(jitter))
}

// knot is the n-th of those values, between -1 and 1.
func (l *Line) knot(n time.Duration) float64 {
	var rng rand.PCG
	rng.Seed(l.seed[0], l.seed[1]+uint64(n))
	return 2*float64(rng.Uint64()>>11)/(1<<53) - 1
}

// clear says whether a packet that came in now and met no impairment would arrive at once.
func (l *Line) clear(now time.Duration) bool { return l.last <= now }
