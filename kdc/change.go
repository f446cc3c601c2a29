package kdc

import (
	"context"
	"errors"

	"ssmnet/kdc/store"
)

// change is what an operation does to the store; without ops it does nothing.
type change struct {
	conditions []store.Condition
	ops        []store.Op
}

// replace is the change of one peer's record, provided that it is still the one that was read. Where decisions depend
// on what is new in it, it says so.
func (k *KDC) replace(p *peer, record peerRecord) change {
	key := peerKey(p.name)
	c := change{[]store.Condition{{Key: key, Revision: p.revision}}, []store.Op{put(key, record)}}
	if !samePolicy(p.record, record) {
		c.ops = append(c.ops, put(decisiveKey, uint64(p.revision)))
	}
	return c
}

// change applies what plan makes of the present snapshot, and returns once the snapshot has it. Where somebody else has
// changed the same meanwhile (another KDC on the store), it plans again.
func (k *KDC) change(ctx context.Context, plan func(*snapshot) (change, error)) error {
	if err := k.mayChange(); err != nil {
		return err
	}
	select {
	case k.changing <- struct{}{}:
		defer func() { <-k.changing }()
	case <-ctx.Done():
		return ctx.Err()
	case <-k.stopped:
		return ErrNotServing
	}
	for {
		s := k.snapshot.Load()
		c, err := plan(s)
		if err != nil || len(c.ops) == 0 {
			return err
		}
		revision, err := k.store.Apply(ctx, c.conditions, c.ops)
		if errors.Is(err, store.ErrConflict) {
			revision = s.revision + 1
		} else if err != nil {
			return err
		}
		if waited := k.reach(ctx, revision); waited != nil || err == nil {
			return waited
		}
	}
}

// reach waits until the snapshot has a revision of the store.
func (k *KDC) reach(ctx context.Context, revision store.Revision) error {
	for {
		k.mu.Lock()
		published := k.published
		k.mu.Unlock()
		if k.swept.Load() >= uint64(revision) {
			return nil
		}
		select {
		case <-published:
		case <-ctx.Done():
			return ctx.Err()
		case <-k.stopped:
			return ErrNotServing
		}
	}
}

// isServing says why an operation cannot be done, if so.
func (k *KDC) isServing() error {
	select {
	case <-k.stopped:
		return ErrNotServing
	default:
	}
	if !k.serving.Load() {
		return ErrNotServing
	}
	return nil
}
