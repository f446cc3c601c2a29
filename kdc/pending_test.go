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

// TestOffersInFlightAreBounded: however many ask for one responder, no more wait for it than it may have.
func TestOffersInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		many := maxOffers/maxRequests + 1
		var asking []*module
		for i := range many {
			name := string(rune('f' + i))
			asking = append(asking, p.join(p.add(NewPeer{Name: name}), "203.0.113."+string(rune('1'+i))))
		}
		p.b.drained()
		for i, m := range asking {
			r, err := control.NewRequester(m.self(), control.Want{Flow: ping(m.address(), p.b.address())}, 9)
			if err != nil {
				t.Fatal(err)
			}
			request := r.Request()
			for j := range maxRequests - 1 {
				q := *request
				q.AsOf, q.Na = control.AsOf{}, control.Nonce{byte(i), byte(j), 1}
				m.send(1, &q)
			}
			synctest.Wait()
		}
		p.mu.Lock()
		waiting := len(p.live["b"].conn.offers)
		p.mu.Unlock()
		if waiting != maxOffers {
			t.Errorf("%d offers wait, at most %d may", waiting, maxOffers)
		}
		if got := asking[many-1].denied(); got != control.Busy {
			t.Errorf("denied for %s", got)
		}
	})
}
