package store

import (
	"context"
	"slices"
	"sort"
	"sync"
)

// What a store remembers for its watchers, whichever is reached first.
const (
	historyBatches = 4096
	historyBytes   = 8 << 20
)

// history is the recent changes of a store that this process makes. Watchers read it at their own pace by revision and
// have no queues, so a slow one costs nothing but a Resync.
type history struct {
	maxBatches, maxBytes int

	mu      sync.Mutex
	batches []Batch       // oldest first: all changes after floor, up to last
	bytes   int           // of keys and values in batches
	floor   Revision      // what changed up to here is forgotten
	last    Revision      // the store's
	grown   chan struct{} // closed, and replaced, when batches grows
}

// newHistory begins at a revision, with everything up to it forgotten.
func newHistory(at Revision) *history {
	return &history{
		maxBatches: historyBatches, maxBytes: historyBytes,
		floor: at, last: at, grown: make(chan struct{}),
	}
}

// add remembers what changed at a revision greater than all before. It keeps copies.
func (h *history) add(at Revision, changes []Op) {
	b := Batch{Revision: at, Changes: slices.Clone(changes)}
	for i := range b.Changes {
		b.Changes[i].Value = slices.Clone(b.Changes[i].Value)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches = append(h.batches, b)
	h.bytes += size(b)
	h.last = at
	for len(h.batches) > h.maxBatches || h.bytes > h.maxBytes {
		oldest := h.batches[0]
		h.batches[0] = Batch{} // lets go of the values while the slice still holds the place
		h.batches = h.batches[1:]
		h.bytes -= size(oldest)
		h.floor = oldest.Revision
	}
	close(h.grown)
	h.grown = make(chan struct{})
}

func size(b Batch) (n int) {
	for _, op := range b.Changes {
		n += len(op.Key) + len(op.Value)
	}
	return n
}

// next returns the first batch after a revision, or nil and a channel that closes when there is more.
func (h *history) next(after Revision) (*Batch, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case after == h.last:
		return nil, h.grown
	case after < h.floor, after > h.last: // beyond the last: a revision of some other store
		return &Batch{Revision: h.last, Resync: true}, nil
	}
	i := sort.Search(len(h.batches), func(i int) bool { return h.batches[i].Revision > after })
	b := h.batches[i]
	return &b, nil
}

// watch sends what comes after a revision until ctx ends or done closes.
func (h *history) watch(ctx context.Context, done <-chan struct{}, after Revision) <-chan Batch {
	out := make(chan Batch)
	go func() {
		defer close(out)
		for {
			b, grown := h.next(after)
			var send chan<- Batch
			var next Batch
			if b != nil {
				send, next = out, *b
			}
			select {
			case send <- next:
				after = next.Revision
			case <-grown:
			case <-ctx.Done():
				return
			case <-done:
				return
			}
		}
	}()
	return out
}
