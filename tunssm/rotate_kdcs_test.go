package tunssm

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestOneKDCIsBehind: one KDC has put the next key in use, the other does not know it yet. The connection to that one goes
// on until it ends it, and comes back under the new key; the old one is not needed any more.
func TestOneKDCIsBehind(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, ahead, behind := w.stations["a"], w.stations["b"], w.kdcs[0], w.kdcs[1]
		next := a.next(ahead)
		ahead.tell("a", rotateKey(next))
		if ahead.serviceOf(a) != next.ID || behind.serviceOf(a) != a.identity.KeyID {
			t.Fatal("not under both keys at once")
		}
		a.wantsDisk(next.ID, control.KeyID{})
		for _, k := range a.status().KDCs {
			if !k.Connected {
				t.Errorf("%s: %s", k.Address, k.Fault)
			}
		}
		ahead.set(func(s *script) { s.decide = no(control.Offline) }) // so the other one is asked, under the old key
		pkt := datagram(a, b, 9, "by way of the one behind")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)

		w.net.Cut(kdcAddress(1))
		behind.forget(a.identity.KeyID)
		time.Sleep(time.Minute)
		if k := a.status().KDCs[1]; k.Connected {
			t.Error("connected under a key that it does not know")
		}
		behind.know(a, next) // a copy of a member that is gone
		behind.mu.Lock()
		behind.keys[next.ID] = ahead.keys[next.ID]
		behind.mu.Unlock()
		time.Sleep(2 * lastBackoff)
		if behind.serviceOf(a) != next.ID || !a.status().KDCs[1].Connected {
			t.Error("not welcomed once it has caught up")
		}
	})
}

// TestKDCCatchesUp: RotateKey from a KDC for the key that is in use already makes its connection anew.
func TestKDCCatchesUp(t *testing.T) {
	inWorld(t, 2, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		next := a.next(w.kdcs[0])
		w.kdcs[0].tell("a", rotateKey(next))
		synctest.Wait()
		w.kdcs[1].tell("a", rotateKey(a.next(w.kdcs...))) // on a connection under the dead key
		synctest.Wait()
		if !a.acq.keys.next.IsZero() {
			t.Error("took a key from a connection under a dead one")
		}
		w.kdcs[1].know(a, next)
		w.kdcs[1].tell("a", rotateKey(next))
		time.Sleep(2 * lastBackoff) // the dialer may be waiting
		if w.kdcs[1].serviceOf(a) != next.ID {
			t.Error("the connection runs under the old key")
		}
		saves := len(a.saved)
		w.kdcs[1].tell("a", rotateKey(next)) // once more, on the new connection
		time.Sleep(time.Minute)
		if len(a.saved) != saves || len(w.kdcs[1].linesOf("a")) > 3 {
			t.Errorf("%d saves, %d connections", len(a.saved)-saves, len(w.kdcs[1].linesOf("a")))
		}
	})
}

// TestRequestAcrossRotation: a request on the old connection is granted there, under the old key's id, while the new
// connection is in use; so is an offer accepted. What is asked on the new one goes under the new id.
func TestRequestAcrossRotation(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		var named []control.KeyID // of a, in what is granted
		kdc.set(func(s *script) {
			s.hold = true
			s.grant = func(g *control.KeyGrant) {
				for _, p := range []control.Party{g.A, g.B} {
					if p.Name == "a" {
						named = append(named, p.KeyID)
					}
				}
			}
		})
		old := kdc.line("a")
		pkt := datagram(a, b, 9, "in flight")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		next := a.next(kdc)
		kdc.tell("a", rotateKey(next))
		if kdc.serviceOf(a) != next.ID || !a.status().KDCs[0].Connected {
			t.Fatal("not rotated while a request is under way")
		}
		kdc.release()
		b.wants(pkt)
		a.drops(dropHoldFull, 0)

		kdc.mu.Lock()
		fresh := kdc.lines["a"]
		kdc.lines["a"] = old
		kdc.mu.Unlock()
		b.in(func(acq *acquirer) { acq.destroy(acq.peers["a"].sessions[0], "test") })
		back := datagram(b, a, 9, "offered on the old connection")
		b.host.TUN.Inject(back)
		a.wants(back)

		kdc.mu.Lock()
		kdc.lines["a"] = fresh
		kdc.mu.Unlock()
		a.in(func(acq *acquirer) {
			for _, s := range slices.Clone(acq.peers["b"].sessions) {
				acq.destroy(s, "test")
			}
		})
		again := datagram(a, b, 9, "on the new connection")
		a.host.TUN.Inject(again)
		b.wants(again)
		if want := []control.KeyID{a.identity.KeyID, a.identity.KeyID, next.ID}; !slices.Equal(named, want) {
			t.Errorf("a is named by the keys %v, want %v", named, want)
		}
		a.drops(dropOpen, 0)
	})
}

// TestRotationThatIsCut: the KDC has put the key in use, and the SSM does not hear of it, or hears nothing more.
func TestRotationThatIsCut(t *testing.T) {
	for _, last := range []control.Type{control.TypeHello, control.TypeWelcome} {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
			next := a.next(kdc)
			kdc.set(func(s *script) {
				s.reply = func(l *line, e control.Envelope) bool {
					if e.Message.Type() != control.TypeHello || l.keyID != next.ID {
						return false
					}
					kdc.set(func(s *script) { s.reply = nil })
					kdc.forget(a.identity.KeyID) // the message has verified: the old key is dead
					if last == control.TypeWelcome {
						kdc.welcome(l, e.ID, e.Message.(*control.Hello))
					}
					go w.net.Cut(kdcAddress(0))
					return true
				}
			})
			kdc.tell("a", rotateKey(next))
			time.Sleep(5 * time.Second)
			if kdc.serviceOf(a) != next.ID || !a.status().KDCs[0].Connected {
				t.Errorf("cut after message %d: not connected under the new key", last)
			}
			a.wantsDisk(next.ID, control.KeyID{})
			pkt := datagram(a, b, 9, "after all")
			a.host.TUN.Inject(pkt)
			b.wants(pkt)
			a.drops(dropDenied, 0)
		})
	}
}
