package secret

import (
	"runtime"
	"sync/atomic"
	"time"
)

// eraseAfter is how long a dropped secret waits for others.
const eraseAfter = time.Second

// Eraser sees to it that what was allocated inside Do is erased soon after the last reference to it was dropped. That
// takes a garbage collection, which a program that has little to do would not make for minutes. One collection serves
// all that was dropped in the second before it, so that the end of ten thousand sessions at once costs one or two.
type Eraser struct {
	after   func(time.Duration, func())
	collect func()
	due     atomic.Bool
}

// NewEraser makes an Eraser on its owner's clock: after calls a function once a while has passed, unless the owner ends
// before; its secrets then end with it, or with the process. The function takes as long as a collection of the heap.
func NewEraser(after func(time.Duration, func())) *Eraser {
	return &Eraser{after: after, collect: collect}
}

func collect() {
	if Erases { // else it would erase nothing
		runtime.GC()
	}
}

// Dropped says that references to secrets were dropped just now. It costs nothing to say so often.
func (e *Eraser) Dropped() {
	if e.due.CompareAndSwap(false, true) {
		e.after(eraseAfter, func() {
			e.due.Store(false) // what is dropped from here on may come too late for this one
			e.collect()
		})
	}
}
