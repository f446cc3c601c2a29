package tunssm

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
)

// TestManyAddresses: of a host with more addresses than a message may have, the first are told.
func TestManyAddresses(t *testing.T) {
	inWorld(t, 1, nil, func(t *testing.T, w *world) {
		a := w.prepare("a", 1)
		var all []netip.Addr
		for at := underlay(1).Addr(); len(all) <= control.MaxAddresses; at = at.Next() {
			all = append(all, at)
		}
		a.host.Route.Move(all...)
		a.run(a.identity)
		synctest.Wait()
		hellos := heard[*control.Hello](w.kdcs[0], "a")
		if len(hellos) != 1 || !slices.Equal(hellos[0].Reach.Addresses, all[:control.MaxAddresses]) {
			t.Errorf("told %+v, want %v", hellos, all[:control.MaxAddresses])
		}
	})
}
