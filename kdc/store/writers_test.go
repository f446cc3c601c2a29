package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// Writers that read, decide and apply lose nothing, and watchers see each step.
func testWriters(t *testing.T, reopen func() Store) {
	const writers, steps = 4, 25
	s, ctx := reopen(), t.Context()
	watch := s.Watch(ctx, 0)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range steps {
				if err := increment(ctx, s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	last, seen := Revision(0), 0
	for seen < writers*steps && !t.Failed() {
		b, ok := receive(t, watch)
		if !ok || b.Resync || b.Revision <= last || len(b.Changes) != 1 {
			t.Fatalf("after %d: %s", last, showBatch(b))
		}
		seen++
		last = b.Revision
		if got := len(b.Changes[0].Value); got != seen {
			t.Fatalf("revision %d shows %d increments, want %d", b.Revision, got, seen)
		}
	}
	wg.Wait()
	s = reopen()
	e, err := s.Get(ctx, "n")
	must(t, err)
	if len(e.Value) != writers*steps || e.Revision != last {
		t.Fatalf("%d increments at %d, want %d at %d", len(e.Value), e.Revision, writers*steps, last)
	}
}

// increment makes the value of n one byte longer.
func increment(ctx context.Context, s Store) error {
	for {
		e, err := s.Get(ctx, "n")
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		_, err = s.Apply(ctx, []Condition{{"n", e.Revision}}, []Op{Put("n", append(e.Value, '.'))})
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// A list shows whole revisions only, and its revision belongs to it.
func testSnapshots(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	var wg sync.WaitGroup
	const steps = 60
	wg.Go(func() {
		for i := range steps {
			v := fmt.Append(nil, i+1)
			if _, err := s.Apply(ctx, nil, []Op{Put("a", v), Put("m", v), Put("z", v)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for last := Revision(0); last < steps && !t.Failed(); {
		list, at, err := s.List(ctx, "")
		must(t, err)
		want := ""
		if at > 0 {
			want = fmt.Sprintf("a=%d@%d m=%d@%d z=%d@%d", at, at, at, at, at, at)
		}
		if got := show(list); got != want || at < last {
			t.Fatalf("%s at %d after %d", got, at, last)
		}
		last = at
	}
	wg.Wait()
}

// Random changes have the effect they have on a map, and whoever replays the watch ends up with the same map.
func testModel(t *testing.T, reopen func() Store) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s, ctx := reopen(), t.Context()
	model := map[string]Entry{}
	var at Revision
	for round := range 8 {
		watch := s.Watch(ctx, at)
		replay := maps.Clone(model)
		start := at
		for range 60 {
			conditions, ops := randomChange(rnd, at)
			want, holds := applyModel(model, at, conditions, ops)
			got, err := s.Apply(ctx, conditions, ops)
			if !holds {
				wantErr(t, err, ErrConflict)
				continue
			}
			must(t, err)
			if got != want {
				t.Fatalf("revision %d, want %d", got, want)
			}
			at = want
		}
		for last := start; last < at; {
			b, _ := receive(t, watch)
			if b.Resync || b.Revision <= last {
				t.Fatalf("after %d: %s", last, showBatch(b))
			}
			last, _ = applyModel(replay, b.Revision-1, nil, b.Changes)
		}
		keys := slices.Sorted(maps.Keys(model))
		var list, replayed []Entry
		for _, k := range keys {
			list, replayed = append(list, model[k]), append(replayed, replay[k])
		}
		if len(replay) != len(model) || show(replayed) != show(list) {
			t.Fatalf("round %d: replayed %s, want %s", round, show(replayed), show(list))
		}
		wantList(t, s, "", show(list), at)
		s = reopen()
		wantList(t, s, "", show(list), at)
	}
}

func randomChange(rnd *rand.Rand, at Revision) (conditions []Condition, ops []Op) {
	for range rnd.IntN(3) {
		conditions = append(conditions, Condition{fmt.Sprint(rnd.IntN(40)), Revision(rnd.Uint64N(uint64(at) + 1))})
	}
	if rnd.IntN(2) == 0 {
		conditions = nil
	}
	for _, k := range rnd.Perm(40)[:rnd.IntN(6)] {
		op := Put(fmt.Sprint(k), bytes.Repeat([]byte{'v'}, rnd.IntN(800)))
		if rnd.IntN(3) == 0 {
			op = Delete(op.Key)
		}
		ops = append(ops, op)
	}
	return conditions, ops
}

func applyModel(m map[string]Entry, at Revision, conditions []Condition, ops []Op) (Revision, bool) {
	for _, c := range conditions {
		if m[c.Key].Revision != c.Revision {
			return 0, false
		}
	}
	changed := false
	for _, op := range ops {
		_, exists := m[op.Key]
		if op.Delete {
			delete(m, op.Key)
			changed = changed || exists
			continue
		}
		m[op.Key] = Entry{op.Key, op.Value, at + 1}
		changed = true
	}
	if changed {
		at++
	}
	return at, true
}
