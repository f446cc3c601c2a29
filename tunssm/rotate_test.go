package tunssm

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// next makes a key that is to replace the station's, and lets these KDCs know it.
func (s *station) next(kdcs ...*center) control.PermanentKey {
	k := control.PermanentKey{ID: control.NewKeyID(), Key: secret.NewKey()}
	for _, c := range kdcs {
		c.know(s, k)
	}
	return k
}

func (c *center) know(s *station, k control.PermanentKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.keys[s.identity.KeyID]
	m.key = k.Key
	c.keys[k.ID] = m
}

// forget makes a key unknown.
func (c *center) forget(id control.KeyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, id)
}

func rotateKey(k control.PermanentKey) *control.RotateKey {
	return &control.RotateKey{KeyID: k.ID, Key: bytes.Clone(k.Key.Bytes())}
}

// keyOf is the key that the SSM's newest connection to the KDC runs under, once all is quiet.
func (c *center) serviceOf(s *station) control.KeyID {
	synctest.Wait()
	return c.line(s.name).keyID
}

// disk is what was saved last: the ids of current and next.
func (s *station) disk() (current, next control.KeyID) {
	s.t.Helper()
	if len(s.saved) == 0 {
		s.t.Fatal("nothing was saved")
	}
	last := s.saved[len(s.saved)-1]
	return last.KeyID, last.Next.ID
}

// wantsDisk checks it; a zero next is none.
func (s *station) wantsDisk(current, next control.KeyID) {
	s.t.Helper()
	synctest.Wait()
	if c, n := s.disk(); c != current || n != next {
		s.t.Errorf("saved %s and %s, want %s and %s", c, n, current, next)
	}
}

// TestRotate: the next key is saved beside the current one before it is used, the connection is made anew before the old
// one ends, and at the Welcome the old key is forgotten on disk and in memory. Sessions do not notice.
func TestRotate(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		before, _ := w.connect("a", "b")
		old := a.acq.keys.current.Key.Bytes()
		next := a.next(kdc)
		kdc.set(func(s *script) { // what was saved by the time of the Hello under next
			s.reply = func(l *line, e control.Envelope) bool {
				if e.Message.Type() == control.TypeHello && l.keyID == next.ID && len(a.saved) != 1 {
					t.Errorf("Hello under the next key after %d saves", len(a.saved))
				}
				return false
			}
		})
		kdc.tell("a", rotateKey(next))
		if got := kdc.serviceOf(a); got != next.ID {
			t.Fatalf("connected under %s, want %s", got, next.ID)
		}
		if len(a.saved) != 2 || a.saved[0].KeyID != a.identity.KeyID || a.saved[0].Next.ID != next.ID ||
			!a.saved[0].Key.Equal(a.identity.Key) || !a.saved[0].Next.Key.Equal(next.Key) {
			t.Fatalf("saved %d times, first %s and %s", len(a.saved), a.saved[0].KeyID, a.saved[0].Next.ID)
		}
		a.wantsDisk(next.ID, control.KeyID{})
		if !a.saved[1].Key.Equal(next.Key) || !slices.Equal(a.saved[1].KDCs, a.identity.KDCs) {
			t.Error("another key or other KDCs were saved")
		}
		if !bytes.Equal(old, make([]byte, secret.Size)) {
			t.Error("the old key is in memory")
		}
		lines := kdc.linesOf("a")
		if len(lines) != 2 || lines[0].conn.Err() != nil {
			t.Fatalf("%d connections, the old one: %v", len(lines), lines[0].conn.Err())
		}
		if hellos := heard[*control.Hello](kdc, "a"); hellos[1].Boot != hellos[0].Boot || hellos[1].Sessions != 1 {
			t.Errorf("%+v", hellos[1])
		}
		time.Sleep(retireOld + time.Second)
		if lines[0].conn.Err() == nil || lines[1].conn.Err() != nil {
			t.Errorf("old %v, new %v", lines[0].conn.Err(), lines[1].conn.Err())
		}
		pkt := datagram(a, b, 9, "after")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
		if a.sending("b") != before {
			t.Error("the session is another")
		}
	})
}

// TestStartWithBothKeys: next is tried first, and current where the KDC does not know it.
func TestStartWithBothKeys(t *testing.T) {
	for _, tt := range []struct {
		name          string
		current, next bool // whether the KDC knows it
	}{{"both known", true, true}, {"the new one only", false, true}, {"the old one only", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, nil, func(t *testing.T, w *world) {
				a, kdc := w.prepare("a", 1), w.kdcs[0]
				next := a.next(kdc)
				if !tt.next {
					kdc.forget(next.ID)
				}
				if !tt.current {
					kdc.forget(a.identity.KeyID)
				}
				id := a.identity
				id.Next = next
				a.run(id)
				want := a.identity.KeyID
				if tt.next {
					want = next.ID
				}
				if got := kdc.serviceOf(a); got != want {
					t.Errorf("connected under %s, want %s", got, want)
				}
				if !a.status().KDCs[0].Connected || len(heard[*control.Hello](kdc, "a")) != 1 {
					t.Error("not welcomed at the first try")
				}
				if tt.next {
					a.wantsDisk(next.ID, control.KeyID{})
				} else if len(a.saved) != 0 {
					t.Error("a key was forgotten that may be needed")
				}
			})
		})
	}
}

// TestNextIsRefused: a KDC that does not know the next key keeps its SSM, under the current one. It is asked again when
// it sends the key again, and not at once: it might be for ever.
func TestNextIsRefused(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		next := a.next()
		kdc.set(func(s *script) {
			s.reply = func(l *line, e control.Envelope) bool { // as the KDC does: on each connection under current
				if e.Message.Type() == control.TypeHello && l.keyID == a.identity.KeyID {
					kdc.welcome(l, e.ID, e.Message.(*control.Hello))
					l.conn.Send(0, rotateKey(next))
					return true
				}
				return false
			}
		})
		kdc.tell("a", rotateKey(next))
		time.Sleep(time.Minute)
		if got := kdc.serviceOf(a); got != a.identity.KeyID || !a.status().KDCs[0].Connected {
			t.Fatalf("connected under %s", got)
		}
		if n := len(heard[*control.Hello](kdc, "a")); n < 8 || n > 20 {
			t.Errorf("%d connections in a minute", n)
		}
		a.wantsDisk(a.identity.KeyID, next.ID)
		kdc.know(a, next)
		time.Sleep(2 * lastBackoff)
		if got := kdc.serviceOf(a); got != next.ID {
			t.Errorf("connected under %s, want %s", got, next.ID)
		}
		a.wantsDisk(next.ID, control.KeyID{})
	})
}

// TestNextIsOfNoUse: a KDC that knows the next key and cannot put it in use, as one without its store, is come to under the
// current one.
func TestNextIsOfNoUse(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		next := a.next(kdc)
		kdc.set(func(s *script) {
			s.reply = func(l *line, e control.Envelope) bool {
				if l.keyID != next.ID {
					return false
				}
				l.conn.Send(e.ID, &control.Refusal{Refused: e.Message.Type(), Reason: control.Unavailable})
				l.conn.Shutdown(time.Second)
				return true
			}
		})
		kdc.tell("a", rotateKey(next))
		synctest.Wait()
		if !a.status().KDCs[0].Connected {
			t.Error("the old connection ended before there was another")
		}
		w.net.Cut(kdcAddress(0))
		time.Sleep(time.Second)
		if got := kdc.serviceOf(a); got != a.identity.KeyID || !a.status().KDCs[0].Connected {
			t.Errorf("connected under %s", got)
		}
		a.wantsDisk(a.identity.KeyID, next.ID)
	})
}

// TestNextCannotBeSaved: a key that is not saved is not used; the KDC offers it again.
func TestNextCannotBeSaved(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		next := a.next(kdc)
		full := errors.New("disk full")
		a.in(func(*acquirer) { a.full = func(control.Identity) error { return full } })
		kdc.tell("a", rotateKey(next))
		time.Sleep(time.Minute)
		if len(kdc.linesOf("a")) != 1 || kdc.serviceOf(a) != a.identity.KeyID || !a.acq.keys.next.IsZero() {
			t.Fatal("a key was used that is not saved")
		}
		a.in(func(*acquirer) { a.full = nil })
		kdc.tell("a", rotateKey(next))
		if kdc.serviceOf(a) != next.ID {
			t.Error("not rotated when there is room again")
		}
		a.wantsDisk(next.ID, control.KeyID{})
	})
}

// TestOldKeyStaysOnDisk: where the file cannot be written after the change, what it holds still connects.
func TestOldKeyStaysOnDisk(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		next := a.next(kdc)
		a.in(func(*acquirer) {
			a.full = func(id control.Identity) error {
				if id.KeyID == next.ID {
					return errors.New("disk full")
				}
				return nil
			}
		})
		kdc.tell("a", rotateKey(next))
		if kdc.serviceOf(a) != next.ID {
			t.Fatal("the new key is not in use")
		}
		a.wantsDisk(a.identity.KeyID, next.ID)
		kdc.forget(a.identity.KeyID)
		kept := a.saved[0]
		a.end()
		<-a.done
		a.full = nil
		a.host = w.net.Host(a.host.UDP.Addr())
		a.run(kept)
		if kdc.serviceOf(a) != next.ID || !a.status().KDCs[0].Connected {
			t.Error("not welcomed with what is on disk")
		}
		a.wantsDisk(next.ID, control.KeyID{})
	})
}

// TestNextIsReplaced: a second RotateKey takes the place of one that no KDC has taken.
func TestNextIsReplaced(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		first := a.next()
		kdc.tell("a", rotateKey(first))
		a.wantsDisk(a.identity.KeyID, first.ID)
		unused := a.acq.keys.next.Key.Bytes()
		second := a.next(kdc)
		kdc.tell("a", rotateKey(second))
		if kdc.serviceOf(a) != second.ID || a.saved[1].Next.ID != second.ID {
			t.Error("the second key is not in use")
		}
		a.wantsDisk(second.ID, control.KeyID{})
		if !bytes.Equal(unused, make([]byte, secret.Size)) {
			t.Error("the first key is in memory")
		}
	})
}

// TestMalformedRotateKey changes nothing.
func TestMalformedRotateKey(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a, kdc := w.stations["a"], w.kdcs[0]
		for _, m := range []*control.RotateKey{
			{KeyID: control.NewKeyID()}, {KeyID: control.NewKeyID(), Key: make([]byte, 31)},
			{KeyID: control.NewKeyID(), Key: make([]byte, 33)}, {Key: make([]byte, 32)},
		} {
			kdc.tell("a", m)
		}
		synctest.Wait()
		if len(a.saved) > 0 || !a.acq.keys.next.IsZero() || len(kdc.linesOf("a")) != 1 || !a.status().KDCs[0].Connected {
			t.Error("taken")
		}
	})
}
