package kdc

import (
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
)

// TestReportOfAnotherRun: a run does not come to hold what another run of the same peer has.
func TestReportOfAnotherRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		synctest.Wait()
		entry := report(keys, p.a.boot, p.b.boot, false).Opened[0]
		p.gate.RLock()
		defer p.gate.RUnlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		for boot, want := range map[control.Boot]control.Reason{p.a.boot: 0, control.NewBoot(): control.Changed} {
			if got := p.opened(p.snapshot.Load(), &connection{k: p.KDC, name: "a", boot: boot}, entry, new(orders)); got != want {
				t.Errorf("refused for %s, want %s", got, want)
			}
		}
	})
}
