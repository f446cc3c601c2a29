package kdc

import (
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
)

// inFlight is the one exchange that waits for its responder.
func (p pair) inFlight() (x *exchange) {
	p.t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) != 1 {
		p.t.Fatalf("%d exchanges in flight", len(p.pending))
	}
	for _, x = range p.pending {
	}
	return x
}

// TestKIsForgotten: however an exchange ends, the KDC has K no longer.
func TestKIsForgotten(t *testing.T) {
	for name, end := range map[string]func(p pair, r *control.Requester){
		"granted":                    func(p pair, r *control.Requester) { p.b.accept(); p.a.granted(r) },
		"denied":                     func(p pair, _ *control.Requester) { p.a.denied() }, // in the end
		"abandoned by the requester": func(p pair, _ *control.Requester) { p.a.close() },
		"abandoned by the responder": func(p pair, _ *control.Requester) { p.b.close() },
		"begun again":                func(p pair, _ *control.Requester) { p.add(NewPeer{Name: "c"}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, aToB)
				r := p.a.request(p.b.address())
				x := p.inFlight()
				p.gate.Lock() // under which no exchange goes on
				k := x.key.Bytes()
				p.gate.Unlock()
				end(p, r)
				synctest.Wait()
				p.gate.Lock()
				defer p.gate.Unlock()
				for _, b := range k {
					if b != 0 {
						t.Fatal("K is still there")
					}
				}
			})
		})
	}
}
