package tunssm

import (
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestAnswerBeforeConfirmation: the host answers a session's first packet before the acquirer has heard that its frame was
// opened. The answer waits for that, and no second session is asked for.
func TestAnswerBeforeConfirmation(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(fake.Drop)
		a.host.TUN.Inject(datagram(a, b, 9, "lost"))
		synctest.Wait()
		answer := datagram(b, a, 9, "answer")
		b.in(func(acq *acquirer) {
			w.net.SetRule(nil)
			a.host.TUN.Inject(datagram(a, b, 9, "first"))
			synctest.Wait()
			if s := acq.peers["a"].sessions[0]; s.heardAt() == 0 || s.peer.sending.Load() != nil {
				t.Fatal("the first frame was not opened, or the acquirer knows of it")
			}
			acq.step1Hold(fake.Frame(answer))
		})
		a.wants(answer)
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "b")); n != 0 {
			t.Errorf("%d requests of b", n)
		}
	})
}
