package relay

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// arrival is a packet that came out of a line.
type arrival struct {
	number int // of the packet, from 0
	at     time.Duration
	copied Copy
}

// pass sends n packets of length bytes through a line, one every gap, and gives what arrives, in order of arrival, and
// how often each Drop was the fate.
func pass(s Settings, seed uint64, n, length int, gap time.Duration) (arrivals []arrival, drops [Overrun + 1]int) {
	l := NewLine(seed, 0)
	for i := range n {
		f := l.Decide(&s, time.Duration(i)*gap, length)
		drops[f.Drop]++
		for _, c := range f.Copies[:f.N] {
			arrivals = append(arrivals, arrival{i, c.At, c})
		}
	}
	slices.SortStableFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	return arrivals, drops
}

// late counts arrivals that a later packet has overtaken.
func late(arrivals []arrival) (n int) {
	newest := -1
	for _, a := range arrivals {
		if a.number < newest {
			n++
		}
		newest = max(newest, a.number)
	}
	return n
}

func count(arrivals []arrival, is func(Copy) bool) (n int) {
	for _, a := range arrivals {
		if is(a.copied) {
			n++
		}
	}
	return n
}

// near fails unless got is within five standard deviations of n throws of probability p.
func near(t *testing.T, what string, got, n int, p float64) {
	t.Helper()
	want, margin := float64(n)*p, 5*math.Sqrt(float64(n)*p*(1-p))
	if math.Abs(float64(got)-want) > margin {
		t.Errorf("%s: %d of %d, want %.0f ± %.0f", what, got, n, want, margin)
	}
}

// TestProbabilities: over the whole range, each as often as it says, alone and all together.
func TestProbabilities(t *testing.T) {
	const n = 20000
	for i, p := range []float64{0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.9, 1} {
		for _, together := range []bool{false, true} {
			s := Settings{Duplicate: p, Reorder: p, Corrupt: p, ReorderBy: ms}
			if together {
				s.Loss, s.Delay, s.Jitter = 0.3, 10*ms, 5*ms
			}
			arrivals, drops := pass(s, uint64(i), n, 1400, ms)
			near(t, "lost", drops[Lost], n, s.Loss)
			near(t, "duplicated", len(arrivals)-drops[Kept], drops[Kept], p)
			near(t, "reordered", count(arrivals, func(c Copy) bool { return c.Reordered }), len(arrivals), p)
			near(t, "corrupted", count(arrivals, func(c Copy) bool { return c.Corrupted }), len(arrivals), p)
		}
		_, drops := pass(Settings{Loss: p}, uint64(i), n, 1400, ms)
		near(t, "lost alone", drops[Lost], n, p)
	}
}

// TestRepeatable: the same seed makes the same decisions, another seed or direction others.
func TestRepeatable(t *testing.T) {
	s := Settings{Loss: 0.3, Duplicate: 0.2, Reorder: 0.25, ReorderBy: 7 * ms, Corrupt: 0.1, Delay: 20 * ms,
		Jitter: 9 * ms, Rate: 1e6}
	fates := func(seed, number uint64) (all []Fate) {
		l := NewLine(seed, number)
		for i := range 1000 {
			all = append(all, l.Decide(&s, time.Duration(i)*3*ms, 100+i))
		}
		return all
	}
	first := fates(1, 0)
	if !slices.Equal(first, fates(1, 0)) {
		t.Error("the same seed decides otherwise")
	}
	if slices.Equal(first, fates(2, 0)) || slices.Equal(first, fates(1, 1)) {
		t.Error("another seed or direction decides the same")
	}
}

// TestSettingsAreIndependent: what is lost stays the same whatever else is set, and so on.
func TestSettingsAreIndependent(t *testing.T) {
	one, more := NewLine(5, 0), NewLine(5, 0)
	for i := range 5000 {
		now := time.Duration(i) * ms
		a := one.Decide(&Settings{Loss: 0.2, Duplicate: 0.5}, now, 500)
		b := more.Decide(&Settings{Loss: 0.2, Duplicate: 0.5, Reorder: float64(i%2) / 2, ReorderBy: ms, Corrupt: 0.7,
			Delay: ms, Jitter: ms}, now, 500)
		if a.Drop != b.Drop || a.N != b.N {
			t.Fatalf("packet %d: %v with %d copies, with more settings %v with %d", i, a.Drop, a.N, b.Drop, b.N)
		}
	}
}

// TestDelay: within its bounds, using all of them, and in order.
func TestDelay(t *testing.T) {
	const gap = ms / 10
	for _, s := range []Settings{
		{}, {Delay: 20 * ms}, {Delay: 20 * ms, Jitter: 15 * ms}, {Delay: 20 * ms, Jitter: 20 * ms},
	} {
		arrivals, _ := pass(s, 3, 10000, 1000, gap)
		least, most := time.Hour, time.Duration(0)
		for i, a := range arrivals {
			took := a.at - time.Duration(a.number)*gap
			if a.number != i {
				t.Fatalf("%+v: packet %d arrives as number %d", s, a.number, i)
			}
			least, most = min(least, took), max(most, took)
		}
		if least < s.Delay-s.Jitter || most > s.Delay+s.Jitter || most-least < s.Jitter {
			t.Errorf("%+v: packets took %v to %v", s, least, most)
		}
	}
}

// TestJitter: the delay is as often above as below, moves about, and is another each time where packets are far apart.
func TestJitter(t *testing.T) {
	const n, gap = 20000, 90 * ms
	arrivals, _ := pass(Settings{Delay: 20 * ms, Jitter: 10 * ms}, 11, n, 1000, gap)
	var below, far, before, alike int
	for _, a := range arrivals {
		off := int(a.at - time.Duration(a.number)*gap - 20*ms)
		if off < 0 {
			below++
		}
		if off < -int(5*ms) || off > int(5*ms) {
			far++
		}
		if (off < 0) == (before < 0) {
			alike++
		}
		before = off
	}
	near(t, "below the mean", below, n, 0.5)
	near(t, "on the side of the one before", alike, n, 0.5)
	if far < n/5 || far > n/2 {
		t.Errorf("%d of %d are off by more than half", far, n)
	}
}

// TestReordering: the packets chosen are overtaken by all that follow within ReorderBy, and nobody else is.
func TestReordering(t *testing.T) {
	const n, gap = 10000, ms
	s := Settings{Reorder: 0.25, ReorderBy: 5*ms + ms/2, Delay: 3 * ms}
	arrivals, _ := pass(s, 9, n, 1000, gap)
	held := count(arrivals, func(c Copy) bool { return c.Reordered })
	near(t, "held back", held, n, 0.25)
	position := make([]int, n)
	for i, a := range arrivals {
		position[a.number] = i
	}
	var overtaken int
	for _, a := range arrivals {
		prompt := false // one of the next five packets is not held back itself
		for next := a.number + 1; next < min(n, a.number+6); next++ {
			prompt = prompt || position[next] < position[a.number]
		}
		if prompt != a.copied.Reordered && a.number < n-6 {
			// All five next ones were held back too, which happens to one in a thousand.
			overtaken++
		}
	}
	if overtaken > n/250 {
		t.Errorf("%d packets were overtaken, or not, against what was decided", overtaken)
	}
	if late(arrivals) < held*9/10 {
		t.Errorf("%d packets late of %d held back", late(arrivals), held)
	}
}

// TestOnlyReorderingReorders: whatever else is set, and however it changes, packets arrive as they came.
func TestOnlyReorderingReorders(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	l := NewLine(1, 0)
	var now, newest time.Duration
	for i := range 20000 {
		s := Settings{Loss: r.Float64() / 2, Duplicate: r.Float64(), Corrupt: r.Float64(), Queue: r.IntN(1 << 16),
			Delay: time.Duration(r.IntN(int(50 * ms)))}
		s.Jitter = time.Duration(r.Float64() * float64(s.Delay))
		if r.IntN(2) == 0 {
			s.Rate = minRate + r.Float64()*1e8
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		now += time.Duration(r.IntN(int(2 * ms)))
		f := l.Decide(&s, now, 40+r.IntN(1460))
		for _, c := range f.Copies[:f.N] {
			if c.At < newest || c.At < now {
				t.Fatalf("packet %d of %v arrives at %v, after one at %v: %+v", i, now, c.At, newest, s)
			}
			newest = c.At
		}
	}
}

// TestRate: whatever is offered, no more gets through than the rate permits, nearly all of it is used, and no packet
// waits longer than the queue takes.
func TestRate(t *testing.T) {
	for _, tt := range []struct {
		rate   float64
		queue  int
		length int
		load   float64 // offered, in parts of the rate
	}{
		{1e6, 0, 1400, 3}, {10e6, 0, 1400, 1.1}, {10e6, 20000, 100, 5}, {1e9, 0, 1400, 2}, {20e6, 0, 1400, 0.5},
		{1e5, 1, 1400, 2},
	} {
		const n = 20000
		each := float64(tt.length) * 8 / tt.rate * float64(time.Second) // of transmission
		gap := time.Duration(each / tt.load)
		s := Settings{Rate: tt.rate, Queue: tt.queue}
		arrivals, drops := pass(s, 1, n, tt.length, gap)
		for i, a := range arrivals[1:] {
			if between := a.at - arrivals[i].at; float64(between) < each-1000 {
				t.Fatalf("%+v: two packets within %v", tt, between)
			}
			wait := a.at - time.Duration(a.number)*gap
			longest := max(float64(s.queue())*8/tt.rate*1e9, 0) + each + 1000
			if float64(wait) > longest {
				t.Fatalf("%+v: a packet waits %v", tt, wait)
			}
		}
		if tt.load < 1 && drops[Overrun] > 0 {
			t.Errorf("%+v: %d overruns below the rate", tt, drops[Overrun])
		}
		if tt.load > 1 && tt.queue != 1 {
			near(t, "passed", drops[Kept]-s.queue()/tt.length, n, 1/tt.load)
		}
	}
}

func TestBlackout(t *testing.T) {
	l := NewLine(1, 0)
	before := l.Decide(&Settings{Delay: 10 * ms}, 0, 100)
	during := l.Decide(&Settings{Delay: 10 * ms, Blackout: true}, ms, 100)
	after := l.Decide(&Settings{}, 2*ms, 100)
	if before.N != 1 || before.Copies[0].At != 10*ms {
		t.Errorf("what was on its way: %+v", before)
	}
	if during.N != 0 || during.Drop != Blackout {
		t.Errorf("in a blackout: %+v", during)
	}
	if after.N != 1 || after.Copies[0].At != 10*ms { // behind what is still on its way
		t.Errorf("after it: %+v", after)
	}
}

// TestDecideAllocatesNothing: a rate of hundreds of thousands of packets a second must not wait for a collector.
func TestDecideAllocatesNothing(t *testing.T) {
	l, s, now := NewLine(1, 0), Settings{Loss: 0.1, Duplicate: 0.5, Rate: 1e9, Delay: ms}, time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += ms
		l.Decide(&s, now, 1000)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
