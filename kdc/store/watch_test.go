package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func testWatch(t *testing.T, reopen func() Store) {
	s := reopen()
	early := s.Watch(t.Context(), 0)
	apply1(t, s, Put("a", []byte("1")), Put("b", []byte("1")))
	apply1(t, s, Delete("a"), Delete("never"), Put("b", []byte("2")))
	late, fromOne := s.Watch(t.Context(), 0), s.Watch(t.Context(), 1)
	apply1(t, s, Put("c", nil))
	want := []string{"1: +a=1 +b=1", "2: -a +b=2", "3: +c="}
	for _, w := range []struct {
		name string
		c    <-chan Batch
		want []string
	}{{"early", early, want}, {"late", late, want}, {"from one", fromOne, want[1:]}} {
		for _, want := range w.want {
			if b, _ := receive(t, w.c); showBatch(b) != want {
				t.Errorf("%s: %s, want %s", w.name, showBatch(b), want)
			}
		}
	}
}

func showBatch(b Batch) string {
	if b.Resync {
		return fmt.Sprintf("%d: resync", b.Revision)
	}
	var words []string
	for _, op := range b.Changes {
		if op.Delete {
			words = append(words, "-"+op.Key)
		} else {
			words = append(words, "+"+op.Key+"="+string(op.Value))
		}
	}
	slices.SortFunc(words, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	return fmt.Sprintf("%d: %s", b.Revision, strings.Join(words, " "))
}

func testWatchEnds(t *testing.T, reopen func() Store) {
	s := reopen()
	ctx, cancel := context.WithCancel(t.Context())
	idle, blocked := s.Watch(ctx, 0), s.Watch(ctx, 0)
	other := s.Watch(t.Context(), 0)
	cancel()
	if _, ok := receive(t, idle); ok {
		t.Error("a batch without a change")
	}
	apply1(t, s, Put("a", nil)) // nobody reads blocked
	if b, _ := receive(t, other); b.Revision != 1 {
		t.Errorf("%+v", b)
	}
	must(t, s.Close())
	for _, c := range []<-chan Batch{blocked, other, s.Watch(t.Context(), 1)} {
		for ok := true; ok; {
			_, ok = receive(t, c)
		}
	}
}

func testWatchResync(t *testing.T, reopen func() Store) {
	s := reopen()
	h := historyOf(s)
	h.mu.Lock()
	h.maxBatches, h.maxBytes = 4, 100
	h.mu.Unlock()
	slow := s.Watch(t.Context(), 0)
	for range 6 {
		apply1(t, s, Put("a", nil))
	}
	// One batch may have been on its way before the history let go of it.
	b, _ := receive(t, slow)
	if b.Revision == 1 && !b.Resync {
		b, _ = receive(t, slow)
	}
	if showBatch(b) != "6: resync" {
		t.Fatalf("the slow watcher got %s", showBatch(b))
	}
	if b, _ := receive(t, s.Watch(t.Context(), 2)); showBatch(b) != "3: +a=" {
		t.Fatalf("the last remembered: %s", showBatch(b))
	}
	for _, after := range []Revision{1, 99} {
		if b, _ := receive(t, s.Watch(t.Context(), after)); showBatch(b) != "6: resync" {
			t.Fatalf("from %d: %s", after, showBatch(b))
		}
	}
	apply1(t, s, Put("big", bytes.Repeat([]byte("x"), 200))) // more than the history holds
	if b, _ := receive(t, slow); showBatch(b) != "7: resync" {
		t.Fatalf("after a large change: %s", showBatch(b))
	}
	apply1(t, s, Put("b", nil))
	if b, _ := receive(t, slow); showBatch(b) != "8: +b=" {
		t.Fatalf("after a resync: %s", showBatch(b))
	}
}

func historyOf(s Store) *history {
	if m, ok := s.(*Memory); ok {
		return m.data.history
	}
	return s.(*Bolt).history
}
