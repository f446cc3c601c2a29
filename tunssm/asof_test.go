package tunssm

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// TestHighestAsOf: whatever message tells of a newer state, an SSM keeps the highest, sends it with its requests, and
// takes neither offer nor grant of an older one.
func TestHighestAsOf(t *testing.T) {
	older, newer := control.AsOf{Epoch: 2, Revision: 3}, control.AsOf{Epoch: 2, Revision: 4}
	for name, tell := range map[string]func(w *world, asOf control.AsOf){
		"Update": func(w *world, asOf control.AsOf) {
			w.kdcs[0].tell("a", &control.Update{Config: control.Config{AsOf: asOf}})
		},
		"Pong":   func(w *world, asOf control.AsOf) { w.kdcs[0].tell("a", &control.Pong{AsOf: asOf}) },
		"Revoke": func(w *world, asOf control.AsOf) { w.kdcs[0].tell("a", &control.Revoke{AsOf: asOf}) },
		"Welcome": func(w *world, asOf control.AsOf) {
			w.kdcs[0].set(func(s *script) { s.asOf = asOf })
			w.net.Cut(kdcAddress(0))
			time.Sleep(time.Second)
		},
		"Grant": func(w *world, asOf control.AsOf) {
			w.kdcs[0].set(func(s *script) { s.asOf = asOf })
			w.stations["a"].in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
		},
		"Offer": func(w *world, asOf control.AsOf) {
			w.kdcs[0].set(func(s *script) { s.asOf = asOf })
			w.stations["b"].in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "a"}, began: time.Now()}) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
				a := w.stations["a"]
				for _, asOf := range []control.AsOf{older, newer, older} {
					tell(w, asOf)
					want := newer
					if asOf == older && a.status().AsOf != newer {
						want = older
					}
					if got := a.status().AsOf; got != want {
						t.Fatalf("has seen %s after %s, want %s", got, asOf, want)
					}
				}
				for _, s := range w.stations {
					s.in(func(acq *acquirer) {
						for _, p := range acq.peers {
							for _, x := range slices.Clone(p.sessions) {
								acq.destroy(x, "test")
							}
						}
					})
				}
				w.kdcs[0].set(func(s *script) { s.asOf = older })
				pkt := datagram(a, w.stations["b"], 9, "of an older state")
				a.host.TUN.Inject(pkt)
				a.answered(pkt, packet.HostUnreachable)
				asked := heard[*control.KeyRequest](w.kdcs[0], "a")
				if last := asked[len(asked)-1]; last.AsOf != newer {
					t.Errorf("asks as of %s", last.AsOf)
				}
				synctest.Wait()
				if n := len(a.sessions("b")); n != 0 {
					t.Errorf("%d sessions of an older state", n)
				}
			})
		})
	}
}
