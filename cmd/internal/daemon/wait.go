package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Polling starts fast, so that a daemon that is ready in milliseconds is seen to be, and slows down.
const (
	firstPause = 2 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// giveUp marks an error after which WaitReady asks no more.
type giveUp struct{ error }

func (g giveUp) Unwrap() error { return g.error }

// GiveUp is what a condition of WaitReady returns where waiting longer cannot help, such as a daemon that died.
func GiveUp(err error) error { return giveUp{err} }

// WaitReady asks ready again and again until it returns nil, gives up (GiveUp) or ctx ends. The error of an ended
// context also wraps the last one that ready gave, which says what was still missing.
func WaitReady(ctx context.Context, ready func(context.Context) error) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for next := firstPause; ; next = min(2*next, lastPause) {
		err := ready(ctx)
		var final giveUp
		switch {
		case err == nil:
			return nil
		case errors.As(err, &final):
			return final.error
		case ctx.Err() != nil:
			return ended(ctx, err)
		}
		pause.Reset(next)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ended(ctx, err)
		}
	}
}

func ended(ctx context.Context, last error) error {
	if errors.Is(last, ctx.Err()) {
		return last
	}
	return fmt.Errorf("%w: %w", ctx.Err(), last)
}
