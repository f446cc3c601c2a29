package relay

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQueue: against an oracle that sorts, with pushes and pops mixed.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var q queue
	type entry struct {
		at    time.Duration
		order uint64
	}
	var oracle []entry
	now, order := time.Duration(0), uint64(0)
	for range 20000 {
		if r.IntN(2) == 0 {
			at := now + time.Duration(r.IntN(50))
			if !q.push(at, binary.BigEndian.AppendUint64(q.buffer(), order)) {
				t.Fatal("refused")
			}
			oracle = append(oracle, entry{at, order})
			order++
			continue
		}
		now += time.Duration(r.IntN(3))
		slices.SortFunc(oracle, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
		})
		frame, ok := q.pop(now)
		want := len(oracle) > 0 && oracle[0].at <= now
		if ok != want {
			t.Fatalf("at %v: pop says %v, want %v", now, ok, want)
		}
		if !ok {
			continue
		}
		if got := binary.BigEndian.Uint64(frame); got != oracle[0].order {
			t.Fatalf("at %v: frame %d, want %d", now, got, oracle[0].order)
		}
		oracle = oracle[1:]
		q.recycle(frame)
	}
	if len(oracle) != len(q.heap) || q.bytes != len(oracle)*frameRoom {
		t.Errorf("%d frames of %d bytes are left, want %d", len(q.heap), q.bytes, len(oracle))
	}
}

// TestQueueIsBounded in what waits and in what it keeps to use again.
func TestQueueIsBounded(t *testing.T) {
	var q queue
	n := 0
	for q.push(0, q.buffer()) {
		n++
	}
	if n != maxWaiting/frameRoom {
		t.Errorf("%d frames wait, want %d", n, maxWaiting/frameRoom)
	}
	for range n {
		frame, _ := q.pop(0)
		q.recycle(frame)
	}
	q.recycle(make([]byte, 0, 1<<16))
	if len(q.spare) != maxSpare || q.bytes != 0 {
		t.Errorf("%d buffers kept, %d bytes wait", len(q.spare), q.bytes)
	}
	if !q.push(0, q.buffer()) {
		t.Error("still full")
	}
}
