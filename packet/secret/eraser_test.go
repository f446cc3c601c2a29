package secret

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A burst costs one collection, what is dropped during it another, and nothing waits longer than a second for its own.
func TestEraser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var collections atomic.Int32
		e := NewEraser(func(d time.Duration, f func()) { time.AfterFunc(d, f) })
		e.collect = func() {
			if collections.Add(1) == 2 {
				e.Dropped()
			}
		}
		wait := func(d time.Duration, want int32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := collections.Load(); got != want {
				t.Errorf("%d collections, want %d", got, want)
			}
		}
		wait(time.Hour, 0)
		for range 10_000 {
			e.Dropped()
		}
		wait(eraseAfter-1, 0)
		wait(1, 1)
		wait(time.Hour, 1)
		e.Dropped()
		wait(eraseAfter/2, 1)
		e.Dropped()
		wait(eraseAfter/2, 2)
		wait(eraseAfter, 3)
		wait(time.Hour, 3)
	})
}

// A binary that erases does so by collecting; one that does not, spares itself the work.
func TestCollect(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	collect()
	runtime.ReadMemStats(&after)
	if forced := after.NumForcedGC > before.NumForcedGC; forced != Erases {
		t.Errorf("collected: %v, erases: %v", forced, Erases)
	}
}
