package policy

import (
	"math/bits"
	"sync/atomic"
)

const (
	maxSlots  = 1 << 14 // pairs remembered at most
	maxCached = 1 << 20 // selectors remembered at most, in all of them
)

// cache remembers the pairs asked for last: a table in which a pair has one slot and displaces what it finds there. So
// it is bounded, needs no lock, and allocates nothing to look up.
type cache struct {
	slots     []atomic.Pointer[cached]
	shift     uint         // of a hash, to leave a slot
	selectors atomic.Int64 // held in all slots
}

type cached struct {
	key  key
	pair Pair
}

// key is a pair of peers, the smaller index first, in an epoch.
type key struct{ a, b, epoch int32 }

func newKey(i, j, epoch int32) key { return key{min(i, j), max(i, j), epoch} }

// size makes the table for n peers: it is called once, before use.
func (c *cache) size(n int) {
	slots := min(max(8*n, 64), maxSlots)
	width := bits.Len(uint(slots - 1))
	c.slots = make([]atomic.Pointer[cached], 1<<width)
	c.shift = uint(64 - width)
}

// slot spreads keys by multiplication with 2^64 over the golden ratio (Knuth, volume 3, section 6.4).
func (c *cache) slot(k key) *atomic.Pointer[cached] {
	h := (uint64(uint32(k.a))<<32 | uint64(uint32(k.b))) * 0x9e3779b97f4a7c15
	return &c.slots[(h^h>>32)*0x9e3779b97f4a7c15>>c.shift]
}

func (c *cache) get(k key) (Pair, bool) {
	if p := c.slot(k).Load(); p != nil && p.key == k {
		return p.pair, true
	}
	return Pair{}, false
}

func (c *cache) put(k key, p Pair) {
	entry, n := &cached{k, p}, len(p.Selectors)
	if c.selectors.Load() > maxCached {
		entry, n = nil, 0 // gives up the slot: to refuse the new would keep the old for ever
	}
	if old := c.slot(k).Swap(entry); old != nil {
		n -= len(old.pair.Selectors)
	}
	c.selectors.Add(int64(n))
}
