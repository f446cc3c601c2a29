package tunssm

import (
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// The times in the life of a session, to the second in which the acquirer looks (tendInterval).

// clockedFrames are the times at which a station sent frames of a type, from the moment of watching.
type clockedFrames struct {
	mu    sync.Mutex
	times []time.Duration
}

// watch notes what s sends from now on; lost says that nothing arrives any more.
func (w *world) watch(s *station, typ packet.FrameType, lost bool) *clockedFrames {
	c, began := new(clockedFrames), time.Now()
	w.net.SetRule(func(d fake.Datagram) []fake.Delivery {
		if h, err := packet.ParseFrame(d.Payload); err == nil && h.Type == typ && d.Src == s.host.UDP.Addr() {
			c.mu.Lock()
			c.times = append(c.times, time.Since(began))
			c.mu.Unlock()
		}
		if lost {
			return nil
		}
		return fake.Through(d)
	})
	return c
}

func (c *clockedFrames) sofar() []time.Duration {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.times)
}

// within says that a time is due, or at most one look later.
func within(t *testing.T, what string, got, due time.Duration) {
	t.Helper()
	if got < due || got > due+tendInterval {
		t.Errorf("%s after %v, want %v", what, got, due)
	}
}

// TestKeepaliveTime: who opens data and has sent nothing for keepaliveAfter sends one probe, and no other until there is
// data again.
func TestKeepaliveTime(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		w.send("b", "a", "the last that b sends")
		sent := w.watch(w.stations["b"], packet.Probe, false)
		time.Sleep(time.Millisecond)
		w.send("a", "b", "data")
		time.Sleep(time.Minute)
		if got := sent.sofar(); len(got) != 1 {
			t.Fatalf("probes at %v, want one", got)
		}
		within(t, "keepalive", sent.sofar()[0], keepaliveAfter)
	})
}

// TestDeadPathTimes: what nothing answers is asked about from doubtAfter on and acquired again after deadAfter, and every
// askAgain as long as it lasts.
func TestDeadPathTimes(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		a := w.stations["a"]
		time.Sleep(5 * time.Second)
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Busy) })
		probes, began := w.watch(a, packet.Probe, true), time.Now()
		a.host.TUN.Inject(datagram(a, w.stations["b"], 9, "into the dark"))
		var asked []time.Duration
		for time.Since(began) < deadAfter+2*askAgain+2*tendInterval {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")) - 1; n > len(asked) {
				asked = append(asked, time.Since(began))
			}
		}
		if len(asked) != 3 {
			t.Fatalf("asked after %v, want three times", asked)
		}
		for i, at := range asked {
			within(t, "request", at, deadAfter+time.Duration(i)*askAgain)
		}
		got := probes.sofar()
		if len(got) != 3 {
			t.Fatalf("probes at %v, want one a second from %v on, before %v", got, doubtAfter, deadAfter)
		}
		within(t, "echo", got[0], doubtAfter)
	})
}

// TestRekeyTimes: the requester asks within the last tenth of rekey, each session at another time; where it does not,
// the responder does responderLag after.
func TestRekeyTimes(t *testing.T) {
	const rekey = 10 * time.Minute
	asks := func(w *world, name string, before int) time.Duration {
		began := time.Now()
		for i := 0; len(heard[*control.KeyRequest](w.kdcs[0], name)) == before && time.Since(began) < 2*rekey; i++ {
			if i%100 == 0 {
				w.send("a", "b", "steady")
				w.send("b", "a", "steady")
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		return time.Since(began)
	}
	seen := map[time.Duration]bool{}
	for range 8 {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.connect("a", "b")
			at := asks(w, "a", 1)
			if at < rekey-rekey/10 || at > rekey+tendInterval {
				t.Errorf("the requester asks after %v", at)
			}
			seen[at.Round(time.Second)] = true
		})
	}
	if len(seen) < 3 {
		t.Errorf("the times of 8 rekeys are %v", seen)
	}
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		w.stations["a"].in(func(acq *acquirer) { acq.peers["b"].sessions[0].rekeyAt = 0 })
		within(t, "the responder asks", asks(w, "b", 0), rekey+responderLag)
	})
}

// TestIdleTimes: the requester says close after idle and opens what is on its way for closeLinger more; the responder
// ends at the close, and both report it.
func TestIdleTimes(t *testing.T) {
	const idle = 3 * time.Minute
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		_, theirs := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		late := [2][]byte{}
		for i, text := range []string{"on the way", "far too long on the way"} {
			late[i] = seal(t, theirs, packet.Data, 0, datagram(b, a, 9, text))
		}
		closed := w.watch(a, packet.Probe, false)
		for len(closed.sofar()) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		within(t, "close", closed.sofar()[0], idle)
		if n := len(b.sessions("a")); n != 0 {
			t.Errorf("the responder keeps %d sessions that were closed", n)
		}
		if s := a.sessions("b"); len(s) != 1 || a.sending("b") != nil {
			t.Fatal("the requester does not linger, or sends on")
		}
		time.Sleep(closeLinger - 20*time.Millisecond)
		a.host.UDP.Forge(b.host.UDP.Addr(), late[0])
		a.wants(datagram(b, a, 9, "on the way"))
		time.Sleep(40 * time.Millisecond)
		a.host.UDP.Forge(b.host.UDP.Addr(), late[1])
		a.wants()
		if n := len(a.sessions("b")); n != 0 {
			t.Errorf("the requester keeps %d sessions that it closed", n)
		}
		time.Sleep(reportDelay)
		synctest.Wait()
		for _, name := range []string{"a", "b"} {
			if r := heard[*control.SessionReport](w.kdcs[0], name); !slices.Contains(r[len(r)-1].Closed, theirs.id) {
				t.Errorf("%s does not report the end", name)
			}
		}
	})
}

// TestSupersededTime: a session that another has replaced opens what is on its way for supersededFor, and no longer.
func TestSupersededTime(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		_, theirs := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		late := [2][]byte{}
		for i, text := range []string{"on the way", "far too long on the way"} {
			late[i] = seal(t, theirs, packet.Data, 0, datagram(b, a, 9, text))
		}
		if err := a.Rekey("b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(supersededFor - time.Millisecond)
		a.host.UDP.Forge(b.host.UDP.Addr(), late[0])
		a.wants(datagram(b, a, 9, "on the way"))
		time.Sleep(2 * time.Millisecond)
		a.host.UDP.Forge(b.host.UDP.Addr(), late[1])
		a.wants()
		a.drops(dropSPI, 1)
	})
}

// advance makes a session have sealed so many frames.
func advance(s *session, frames packet.Counter) {
	counter := reflect.ValueOf(s.sealer).Elem().FieldByName("counter")
	(*atomic.Uint64)(unsafe.Pointer(counter.UnsafeAddr())).Store(uint64(frames))
}

// TestFrameLimits: either side acquires another session once it has sealed rekeyFrames, no sooner, and nothing is lost.
// A key that has sealed packet.MaxFrames seals no more, and the session is acquired again all the same.
func TestFrameLimits(t *testing.T) {
	for from, to := range map[string]string{"a": "b", "b": "a"} {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.connect("a", "b")
			one := w.stations[from].sending(to)
			asked := func() int { return len(heard[*control.KeyRequest](w.kdcs[0], from)) }
			before := asked()
			advance(one, rekeyFrames-2)
			w.send(from, to, "not yet")
			w.send(to, from, "nor the other way") // so that no keepalive counts
			time.Sleep(2 * tendInterval)
			if asked() != before {
				t.Fatalf("%s asks too soon", from)
			}
			w.send(from, to, "enough")
			time.Sleep(tendInterval)
			synctest.Wait()
			two := w.stations[from].sending(to)
			if asked() != before+1 || two == one || two == nil || w.stations[from].state(two) != confirmed {
				t.Fatalf("%s has not replaced a session that sealed %d frames", from, one.sealer.Sealed())
			}
			w.send(from, to, "on the new one")

			advance(two, packet.MaxFrames)
			x, y := w.stations[from], w.stations[to]
			x.host.TUN.Inject(datagram(x, y, 9, "one too many"))
			y.wants()
			x.drops(dropSeal, 1)
			time.Sleep(tendInterval)
			synctest.Wait()
			w.send(from, to, "on the third")
		})
	}
}

// TestUnreachableIsForgotten: an absence is remembered for a second, and then asked about again.
func TestUnreachableIsForgotten(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Offline) })
		pkt := datagram(a, b, 9, "anybody?")
		for i, step := range []struct {
			after time.Duration
			asked int
		}{{0, 1}, {absentLife, 1}, {time.Millisecond, 2}} {
			time.Sleep(step.after)
			a.host.TUN.Inject(pkt)
			a.answered(pkt, packet.HostUnreachable)
			if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != step.asked {
				t.Fatalf("step %d: %d requests, want %d", i, n, step.asked)
			}
		}
	})
}

// TestRevokedForAMinute: an offer of a revoked session is refused for revokedFor, however often it was revoked.
func TestRevokedForAMinute(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		b, id := w.stations["b"], control.NewSessionID()
		w.kdcs[0].set(func(s *script) { s.offer = func(o *control.KeyOffer) { o.Session = id } })
		offered := func() int {
			w.stations["a"].in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			n := len(b.sessions("a"))
			b.in(func(acq *acquirer) {
				if s := acq.sessionByID(id); s != nil {
					acq.destroy(s, "test")
				}
			})
			return n
		}
		before := b.kept()["timers"]
		for range 3 {
			w.kdcs[0].tell("b", &control.Revoke{Sessions: []control.SessionID{id}, Reason: control.Changed})
		}
		if n := b.kept()["timers"] - before; n != 1 {
			t.Errorf("%d timers for one id", n)
		}
		time.Sleep(revokedFor - time.Second)
		if offered() != 0 {
			t.Error("a session that was just revoked is installed")
		}
		time.Sleep(time.Second)
		if offered() != 1 {
			t.Error("a revoked id is remembered for ever")
		}
	})
}

// TestFigures: the times are those that design and documentation promise.
func TestFigures(t *testing.T) {
	for _, f := range []struct {
		what      string
		got, want time.Duration
	}{
		{"keepalive", keepaliveAfter, 5 * time.Second}, {"dead path", deadAfter, 10 * time.Second},
		{"the responder's rekey and end", responderLag, 30 * time.Second}, {"after close", closeLinger, 2 * time.Second},
		{"superseded", supersededFor, 30 * time.Second}, {"revoked", revokedFor, time.Minute},
		{"unconfirmed", control.ConfirmTimeout, 10 * time.Second}, {"reports", reportDelay, 200 * time.Millisecond},
		{"request", control.RequestTimeout, 2 * time.Second}, {"accept", control.AcceptTimeout, 4 * time.Second},
		{"hold", control.HoldTimeout, 5 * time.Second},
		{"ping", control.PingInterval, 15 * time.Second}, {"silence", control.DeadAfter, 45 * time.Second},
		{"renewal", renewAfter, time.Hour},
	} {
		if f.got != f.want {
			t.Errorf("%s: %v, want %v", f.what, f.got, f.want)
		}
	}
	if rekeyFrames != 1<<34 || packet.MaxFrames != 1<<40 || maxHeldFrames != 64 || maxHeldBytes != 256<<10 || maxHeldTotal != 8<<20 {
		t.Error("a bound has changed")
	}
}
