package kdc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"ssmnet/kdc/store"
)

// The way of a change: a policy applied, a peer added, changed, suspended or removed, a key made or put in use. The functions
// follow in this order.
//
//	1. change   plan the write on the present snapshot (policies.go, peers.go, enrol.go, rotate.go), and apply it to the
//	            store, where what it was planned on is still so; otherwise plan it again
//	2. follow   the store's watch brings it, to this KDC as to every other on the store
//	3. catchUp  the directory takes it, with all that is ready behind it, and compiles a snapshot (directory.go)
//	4. publish  decisions are made under the snapshot from now on, and what the one before permitted is decided again:
//	               reviewExchanges   exchanges in flight begin again, or are denied (pending.go)
//	               turnOutGone       peers that were suspended or removed are barred (barred.go)
//	               reviewSessions    live sessions go on, are narrowed (narrow.go) or revoked (revoke.go)
//	               caughtUp          requests that waited for it begin (pending.go)
//	5. update   everybody connected is told what is new for it (update.go)
//	6. outcome  the change returns with what publish has made of live sessions; whoever made it waits for the acks
//	            (receipts.go)

// write is what an operation does to the store; without ops it does nothing.
type write struct {
	conditions []store.Condition
	ops        []store.Op
}

// add makes two writes one.
func (w *write) add(o write) {
	w.conditions, w.ops = append(w.conditions, o.conditions...), append(w.ops, o.ops...)
}

// outcome is what publishing a snapshot made of live sessions.
type outcome struct {
	revision store.Revision // the snapshot's
	receipts *receipts
}

// change writes what plan makes of the present snapshot, and returns once the KDC decides by it: with the receipts of the
// sessions that it cost, and of none that something else did meanwhile, unless the store brought both at once. Where
// somebody else has changed the same (another KDC on the store), it plans again.
func (k *KDC) change(ctx context.Context, plan func(*snapshot) (write, error)) (*receipts, error) {
	if err := k.mayChange(); err != nil {
		return nil, err
	}
	select {
	case k.changing <- struct{}{}:
		defer func() { <-k.changing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-k.stopped:
		return nil, ErrNotServing
	}
	k.keepOutcomes([]outcome{})
	defer k.keepOutcomes(nil)
	for {
		s := k.snapshot.Load()
		w, err := plan(s)
		if err != nil || len(w.ops) == 0 {
			return nil, err
		}
		revision, err := k.store.Apply(ctx, w.conditions, w.ops)
		again := errors.Is(err, store.ErrConflict)
		if again {
			revision = s.revision + 1
		} else if err != nil {
			return nil, err
		}
		if err := k.decidesBy(ctx, revision); err != nil {
			return nil, err
		}
		if !again {
			return k.outcome(revision), nil
		}
	}
}

// keepOutcomes begins to keep outcomes for a change, or with nil ends it.
func (k *KDC) keepOutcomes(list []outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.outcomes = list
}

// follow keeps the snapshot up to the store, and decides again when a grant ends by time, until ctx ends.
func (k *KDC) follow(ctx context.Context) error {
	watch := k.store.Watch(ctx, k.directory.revision)
	compiled := k.snapshot.Load().compiled
	until := compiled.NextUntil(k.now())
	for {
		clock := time.NewTimer(k.nap(until))
		select {
		case b, ok := <-watch:
			clock.Stop()
			if !ok {
				return errors.Join(ctx.Err(), errStoreEnded)
			}
			if err := k.catchUp(ctx, b, watch); err != nil {
				return err
			}
		case <-clock.C:
		}
		s := k.snapshot.Load()
		next := s.compiled.NextUntil(k.now())
		if s.compiled == compiled && !next.Equal(until) { // the wall clock has passed one, or has been set back before one
			k.publish(s, true)
		}
		compiled, until = s.compiled, next
	}
}

// nap is how long to sleep until a moment of the wall clock: never more than a minute, for that clock may be set.
func (k *KDC) nap(until time.Time) time.Duration {
	if until.IsZero() {
		return time.Minute
	}
	return max(0, min(time.Minute, until.Sub(k.now())))
}

// catchUp takes a batch and all that are ready behind it, and publishes what they come to.
func (k *KDC) catchUp(ctx context.Context, b store.Batch, watch <-chan store.Batch) error {
	if err := k.directory.apply(ctx, b); err != nil {
		return err
	}
	if k.directory.stale {
		k.lull(ctx)
	}
	for more := true; more; {
		select {
		case b, more = <-watch:
			if more {
				if err := k.directory.apply(ctx, b); err != nil {
					return err
				}
			}
		default:
			more = false
		}
	}
	before := k.snapshot.Load()
	s, err := k.directory.compile()
	if err != nil {
		return err
	}
	k.publish(s, !s.decidesLike(before))
	return nil
}

// maxLull bounds how long a change waits for the exchanges that the one before made begin again.
const maxLull = 300 * time.Millisecond

// lull waits until the exchanges that a change made begin again have come to an end: if one change followed another
// faster than responders answer, none ever would.
func (k *KDC) lull(ctx context.Context) {
	limit, look := time.NewTimer(maxLull), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer look.Stop()
	for {
		k.mu.Lock()
		n := k.reissued
		k.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-look.C:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// publish makes s the snapshot that decisions are made under, and decides again about everything that the one before
// permitted. decisive says that policy may answer differently than before.
func (k *KDC) publish(s *snapshot, decisive bool) {
	r := newReceipts()
	k.gate.Lock()
	k.snapshot.Store(s)
	if decisive {
		k.reviewExchanges(s)
	}
	k.turnOutGone(s, r)
	k.reviewSessions(s, decisive, r)
	k.complete(r)
	for _, x := range k.caughtUp(s) {
		k.begin(s, x)
	}
	k.gate.Unlock()
	k.update(decisive)

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.outcomes != nil {
		k.outcomes = append(k.outcomes, outcome{s.revision, r})
	}
	k.swept.Store(uint64(s.revision))
	close(k.published)
	k.published = make(chan struct{})
}

// reviewExchanges begins the exchanges in flight again, under the new snapshot. KDC.gate is held for writing.
func (k *KDC) reviewExchanges(s *snapshot) {
	k.mu.Lock()
	list := slices.Collect(maps.Values(k.pending))
	for _, x := range list {
		k.take(x)
	}
	k.mu.Unlock()
	for _, x := range list {
		k.again(s, x)
	}
}

// reviewSessions judges the live sessions anew, if policy has changed or some wait for it. KDC.gate is held for writing.
func (k *KDC) reviewSessions(s *snapshot, decisive bool, r *receipts) {
	var o orders
	k.mu.Lock()
	if decisive || k.early {
		k.early = false
		for _, x := range k.sessions {
			k.review(s, x, &o)
		}
	}
	k.mu.Unlock()
	k.carryOut(s, o, r)
}

// decidesBy waits until the snapshot has a revision of the store, and its consequences are out.
func (k *KDC) decidesBy(ctx context.Context, revision store.Revision) error {
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

// outcome gives the receipts of the snapshot that was the first to have a revision.
func (k *KDC) outcome(revision store.Revision) *receipts {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.outcomes {
		if o.revision >= revision {
			return o.receipts
		}
	}
	none := newReceipts() // the store had nothing to change
	none.complete = true
	none.settle()
	return none
}
