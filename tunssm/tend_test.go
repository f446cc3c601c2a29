package tunssm

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// send puts a datagram through the tunnel and wants it to arrive.
func (w *world) send(from, to, text string) {
	w.t.Helper()
	pkt := datagram(w.stations[from], w.stations[to], 9, text)
	w.stations[from].host.TUN.Inject(pkt)
	w.stations[to].wants(pkt)
}

// TestIdle: the requester closes after idle without data; both sides destroy, both report, the next packet acquires anew.
func TestIdle(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		time.Sleep(170 * time.Second)
		w.send("b", "a", "data from the responder counts")
		time.Sleep(175 * time.Second)
		if len(w.stations["a"].sessions("b")) != 1 {
			t.Fatal("closed before it was idle")
		}
		time.Sleep(10 * time.Second)
		for from, to := range map[string]string{"a": "b", "b": "a"} {
			if list := w.stations[from].sessions(to); len(list) != 0 {
				t.Errorf("%s keeps %d idle sessions", from, len(list))
			}
		}
		if again, _ := w.connect("a", "b"); again.id == s.id {
			t.Error("the idle session lives")
		}
	})
}

// TestIdleAlone: a responder that hears no close ends the session by itself.
func TestIdleAlone(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		w.net.SetRule(fake.Drop)
		b := w.stations["b"]
		time.Sleep(180*time.Second + responderLag - 2*time.Second)
		if len(b.sessions("a")) != 1 {
			t.Fatal("the responder did not wait for the requester")
		}
		time.Sleep(4 * time.Second)
		if len(b.sessions("a")) != 0 {
			t.Fatal("the responder keeps an idle session")
		}
	})
}

// TestKeepalive: one-way traffic is answered by keepalives and never acquires again.
func TestKeepalive(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.RekeyMillis = 0 } })
		s, _ := w.connect("a", "b")
		for range 120 {
			w.send("a", "b", "syslog")
			time.Sleep(700 * time.Millisecond)
		}
		if now := w.stations["a"].sending("b"); now != s {
			t.Error("one-way traffic was taken for a dead path")
		}
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		if s.rx.packets.Load() != 0 || s.heardAt() == 0 {
			t.Error("no keepalive came")
		}
	})
}

// TestDeadPath: data that nothing answers acquires again, and heals when the path does; an offline peer's session ends.
func TestDeadPath(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		time.Sleep(time.Second)
		w.net.SetRule(fake.Drop)
		flow := func(seconds int) {
			for range seconds {
				a.host.TUN.Inject(datagram(a, b, 9, "into the dark"))
				time.Sleep(time.Second)
			}
		}
		flow(13)
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 2 {
			t.Fatalf("%d requests after 13 s in the dark, want 2", n)
		}
		w.net.SetRule(nil)
		time.Sleep(3 * time.Second)
		if now := a.sending("b"); now == nil || now == s || a.state(now) != confirmed {
			t.Fatal("the path is back but no new session is confirmed")
		}
		b.received()
		w.send("a", "b", "light")

		w.net.SetRule(fake.Drop)
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Offline) })
		flow(13)
		if a.sending("b") != nil {
			t.Error("an offline peer that nothing was heard from keeps its session")
		}
	})
}

// TestRekey: sessions are replaced before they are old, from either side, and no packet is lost.
func TestRekey(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		for range 50 * 60 {
			w.send("a", "b", "steady")
			w.send("b", "a", "steady")
			time.Sleep(time.Second)
		}
		requests := len(heard[*control.KeyRequest](w.kdcs[0], "a")) + len(heard[*control.KeyRequest](w.kdcs[0], "b"))
		if requests < 5 || requests > 7 {
			t.Errorf("%d requests in 50 minutes with a rekey of 10", requests)
		}
		if w.stations["a"].sending("b") == s {
			t.Error("never rekeyed")
		}
		if n := len(w.stations["a"].sessions("b")); n > 2 {
			t.Errorf("%d sessions with one peer", n)
		}
	})
}

// TestRekeyByResponder: where the requester does not, the responder does, later.
func TestRekeyByResponder(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		w.stations["a"].in(func(acq *acquirer) { acq.peers["b"].sessions[0].rekeyAt = 0 })
		for range 10*60 + 35 {
			w.send("a", "b", "steady")
			time.Sleep(time.Second)
		}
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "b")); n != 1 {
			t.Errorf("the responder asked %d times, want 1", n)
		}
	})
}

// TestRekeyRefused: what policy no longer permits ends at the rekey; a KDC that is away does not end it.
func TestRekeyRefused(t *testing.T) {
	for reason, left := range map[control.Reason]int{control.Denied: 0, control.Busy: 1, control.Offline: 1} {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.connect("a", "b")
			w.kdcs[0].set(func(s *script) { s.decide = no(reason) })
			a, b := w.stations["a"], w.stations["b"]
			for range 10 * 60 {
				a.host.TUN.Inject(datagram(a, b, 9, "x"))
				b.host.TUN.Inject(datagram(b, a, 9, "y"))
				time.Sleep(time.Second)
			}
			if n := len(a.sessions("b")); n != left {
				t.Errorf("%s: %d sessions left, want %d", reason, n, left)
			}
		})
	}
}

// TestGrace: without a KDC sessions go on, and fail closed when grace is over; its return heals.
func TestGrace(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.GraceMillis = 60_000 } })
		w.connect("a", "b")
		w.net.Refuse(kdcAddress(0), true)
		w.net.Cut(kdcAddress(0))
		for range 55 {
			w.send("a", "b", "without a KDC")
			time.Sleep(time.Second)
		}
		time.Sleep(8 * time.Second)
		pkt := datagram(w.stations["a"], w.stations["b"], 9, "too late")
		w.stations["a"].host.TUN.Inject(pkt)
		w.stations["a"].answered(pkt, packet.HostUnreachable)
		w.stations["b"].wants()
		w.net.Refuse(kdcAddress(0), false)
		time.Sleep(lastBackoff * 3 / 2)
		synctest.Wait()
		w.connect("a", "b")
	})
}

// TestRekeyOfUnused: a session that carries nothing is not replaced for its age, or it would never end.
func TestRekeyOfUnused(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.RekeyMillis, x.IdleMillis = 60_000, 180_000 } })
		w.connect("a", "b")
		time.Sleep(60*time.Second + 180*time.Second + 10*time.Second)
		for from, to := range map[string]string{"a": "b", "b": "a"} {
			if list := w.stations[from].sessions(to); len(list) != 0 {
				t.Errorf("%s has %d sessions that nobody uses", from, len(list))
			}
			if n := len(heard[*control.KeyRequest](w.kdcs[0], from)); n > 2 {
				t.Errorf("%s asked %d times", from, n)
			}
		}
	})
}

// TestShortGrace: a KDC that is there and has nothing to say for longer than grace ends no session.
func TestShortGrace(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.GraceMillis = 3_000 } })
		s, _ := w.connect("a", "b")
		time.Sleep(time.Minute)
		if w.stations["a"].sending("b") != s {
			t.Error("the session has ended")
		}
	})
}
