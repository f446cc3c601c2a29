package host

import (
	"log/slog"
	"sync"
	"testing"

	"ssmnet/tunssm/route"
)

// TestKeep: a change of the host's network has the offered routes judged anew.
func TestKeep(t *testing.T) {
	openTUN(t)
	watcher, err := route.Watch()
	if err != nil {
		t.Fatal(err)
	}
	r := &Host{name: "tun0", log: slog.New(slog.DiscardHandler), watcher: watcher}
	judged := make(chan struct{}, 1)
	var tasks sync.WaitGroup
	connect(t, "br9", "10.30.7.1/24")
	tasks.Go(func() { r.keep(t.Context(), func() error { judged <- struct{}{}; return nil }) })
	<-judged
	watcher.Close()
	tasks.Wait()
}
