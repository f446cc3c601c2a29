package tunssm

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestTwins: of two addresses of one KDC one is used, for as long as it works; the other is taken as soon as it does not.
func TestTwins(t *testing.T) {
	inWorld(t, 2, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		uses := func(used int) {
			t.Helper()
			synctest.Wait()
			st := a.status()
			if other := st.KDCs[1-used]; !st.KDCs[used].Connected || other.Connected || other.Fault == "" {
				t.Fatalf("want %s in use alone: %+v", w.kdcs[used].address, st.KDCs)
			}
		}
		for _, c := range w.kdcs {
			c.set(func(s *script) { s.run = control.Boot{7} })
			c.stop()
			c.start()
			time.Sleep(2 * lastBackoff)
		}
		uses(1)
		if why := a.status().KDCs[0].Fault; !strings.Contains(why, w.kdcs[1].address) {
			t.Errorf("of the one that is not used it says %q", why)
		}
		hellos := len(heard[*control.Hello](w.kdcs[0], "a"))
		time.Sleep(renewAfter / 2)
		if n := len(heard[*control.Hello](w.kdcs[0], "a")); n != hellos {
			t.Errorf("%d times more it said Hello", n-hellos)
		}
		w.kdcs[1].stop()
		time.Sleep(time.Second)
		uses(0)
		w.kdcs[1].start()
		config := a.acq.config
		config.AsOf, config.KDCs = control.AsOf{Epoch: 1, Revision: 2}, []string{w.kdcs[1].address}
		w.kdcs[0].set(func(s *script) { s.asOf = config.AsOf })
		w.kdcs[0].tell("a", &control.Update{Config: config})
		time.Sleep(time.Second)
		if st := a.status(); len(st.KDCs) != 1 || st.KDCs[0].Address != w.kdcs[1].address || !st.KDCs[0].Connected {
			t.Errorf("the one address that is left is not used: %+v", st.KDCs)
		}
	})
}

// TestTwinNoMore: an address that led to the KDC of another is looked at again when that is renewed.
func TestTwinNoMore(t *testing.T) {
	inWorld(t, 2, []string{"a"}, func(t *testing.T, w *world) {
		for _, c := range w.kdcs {
			c.set(func(s *script) { s.run = control.Boot{7} })
			c.stop()
			c.start()
			time.Sleep(2 * lastBackoff)
		}
		w.kdcs[0].set(func(s *script) { s.run = control.Boot{8} })
		time.Sleep(2 * renewAfter)
		if st := w.stations["a"].status(); !st.KDCs[0].Connected || !st.KDCs[1].Connected {
			t.Errorf("two KDCs are not both used: %+v", st.KDCs)
		}
	})
}
