package daemon

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// SignalContext gives a context that the first SIGINT or SIGTERM cancels. The second ends the process at once, with 128
// and the signal's number as a shell would show it: whoever sends two does not want to wait for the first. stop
// gives the signals their default meaning back.
func SignalContext() (ctx context.Context, stop context.CancelFunc) { return signalContext(os.Exit) }

func signalContext(exit func(code int)) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case s := <-signals:
			exit(128 + int(s.(syscall.Signal)))
		case <-done:
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
		cancel()
	})
}
