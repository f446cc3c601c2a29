package e2e

import (
	"context"
	"errors"
	"sync"

	"ssmnet/kdc/store"
)

// heldStore is a handle of the store whose watch can be held back, and which can be cut off.
type heldStore struct {
	*store.Memory
	mu    sync.Mutex
	freed chan struct{} // nil: nothing is held
	away  bool          // reads fail
}

var errNoRoute = errors.New("no route to host")

// cut makes reads fail, and holds changes back, until the function that it returns is called.
func (h *heldStore) cut() (mend func()) {
	free := h.hold()
	h.setAway(true)
	return func() { h.setAway(false); free() }
}

func (h *heldStore) setAway(away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away = away
}

func (h *heldStore) List(ctx context.Context, prefix string) ([]store.Entry, store.Revision, error) {
	h.mu.Lock()
	away := h.away
	h.mu.Unlock()
	if away {
		return nil, 0, errNoRoute
	}
	return h.Memory.List(ctx, prefix)
}

// hold keeps changes from the KDC until the function that it returns is called.
func (h *heldStore) hold() (free func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	freed := make(chan struct{})
	h.freed = freed
	return sync.OnceFunc(func() { close(freed) })
}

func (h *heldStore) Watch(ctx context.Context, after store.Revision) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range h.Memory.Watch(ctx, after) {
			h.mu.Lock()
			freed := h.freed
			h.mu.Unlock()
			if freed != nil {
				select {
				case <-freed:
				case <-ctx.Done():
				}
			}
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	}()
	return out
}
