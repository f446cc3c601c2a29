package tunssm

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// TestNextKDC: where the first KDC cannot say yes, the second is asked.
func TestNextKDC(t *testing.T) {
	tests := []struct {
		name  string
		first func(*script)
		after time.Duration
	}{
		{"offline", func(s *script) { s.decide = no(control.Offline) }, 0},
		{"behind", func(s *script) { s.decide = no(control.Behind) }, 0},
		{"detached", func(s *script) { s.decide = no(control.Detached) }, 0},
		{"unavailable", func(s *script) { s.decide = no(control.Unavailable) }, 0},
		{"busy", func(s *script) { s.decide = no(control.Busy) }, 0},
		{"silent", func(s *script) { s.mute = true }, control.RequestTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
				a, b := w.stations["a"], w.stations["b"]
				w.kdcs[0].set(tt.first)
				pkt := datagram(a, b, 9, "second")
				a.host.TUN.Inject(pkt)
				if tt.after > 0 {
					b.wants()
					time.Sleep(tt.after)
				}
				b.wants(pkt)
				first := heard[*control.KeyRequest](w.kdcs[0], "a")
				second := heard[*control.KeyRequest](w.kdcs[1], "a")
				if len(first) != 1 || len(second) != 1 {
					t.Fatalf("%d and %d requests, want one each", len(first), len(second))
				}
				if first[0].Na == second[0].Na || slices.Equal(first[0].Pub, second[0].Pub) {
					t.Error("na or pub is sent twice (rule 6)")
				}
			})
		})
	}
}

// TestDeniedIsFinal: a policy's no is not shopped around.
func TestDeniedIsFinal(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Denied) })
		pkt := datagram(a, b, 9, "no means no")
		a.host.TUN.Inject(pkt)
		a.answered(pkt, packet.AdminProhibited)
		if n := len(heard[*control.KeyRequest](w.kdcs[1], "a")); n != 0 {
			t.Fatalf("the second KDC was asked %d times", n)
		}
	})
}

// TestAllKDCsFail: however many KDCs there are, the packet is answered when it has been held for so long.
func TestAllKDCsFail(t *testing.T) {
	inWorld(t, 3, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		for _, c := range w.kdcs {
			c.set(func(s *script) { s.mute = true })
		}
		pkt := datagram(a, b, 9, "nobody answers")
		a.host.TUN.Inject(pkt)
		time.Sleep(control.HoldTimeout - time.Millisecond)
		a.wants()
		time.Sleep(time.Millisecond)
		a.answered(pkt, packet.HostUnreachable)
	})
}

// TestLateGrant: a grant for an attempt that was given up installs nothing.
func TestLateGrant(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		pkt := datagram(a, b, 9, "too late")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		time.Sleep(control.HoldTimeout)
		a.answered(pkt, packet.HostUnreachable)
		kdc.release()
		if n := len(a.sessions("b")); n != 0 {
			t.Fatalf("%d sessions", n)
		}
	})
}

// TestSlowKDC: where there is no other KDC, the answer of the only one is waited for.
func TestSlowKDC(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		pkt := datagram(a, b, 9, "late")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		time.Sleep(control.HoldTimeout - time.Millisecond)
		kdc.release()
		b.wants(pkt)
		if n := len(heard[*control.KeyRequest](kdc, "a")); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

// TestSilentKDC: a KDC that is frozen or cut off costs the first packet its time, and the next ones nothing. It is asked
// again once it answers pings.
func TestSilentKDC(t *testing.T) {
	inWorld(t, 2, []string{"a", "b", "c", "d"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.kdcs[0].set(func(s *script) {
			s.reply = func(l *line, e control.Envelope) bool { return l.who.name == "a" }
		})
		reaches := func(name string, after time.Duration) {
			t.Helper()
			pkt := datagram(a, w.stations[name], 9, "hello")
			a.host.TUN.Inject(pkt)
			synctest.Wait()
			time.Sleep(after)
			w.stations[name].wants(pkt)
		}
		reaches("b", control.RequestTimeout)
		reaches("c", 0)
		w.kdcs[0].set(func(s *script) { s.reply = nil })
		w.kdcs[0].tell("a", &control.Pong{})
		synctest.Wait()
		reaches("d", 0)
		if n := len(heard[*control.KeyRequest](w.kdcs[1], "a")); n != 2 {
			t.Errorf("the second KDC was asked %d times, want 2: not for d", n)
		}
	})
}

// TestDetachedKDC is not asked, and again once it is attached.
func TestDetachedKDC(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.kdcs[0].tell("a", &control.Pong{Detached: true})
		if st := a.status(); !st.KDCs[0].Detached || st.KDCs[1].Detached {
			t.Fatalf("%+v", st.KDCs)
		}
		w.connect("a", "b")
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 0 {
			t.Fatalf("the detached KDC was asked %d times", n)
		}
		w.kdcs[0].set(func(s *script) { s.apart = true })
		w.net.Cut(kdcAddress(0))
		time.Sleep(time.Second)
		if st := a.status(); !st.KDCs[0].Detached || !st.KDCs[0].Connected {
			t.Fatalf("welcomed by a detached KDC: %+v", st.KDCs[0])
		}
		w.kdcs[0].set(func(s *script) { s.apart = false })
		w.net.Cut(kdcAddress(0))
		time.Sleep(time.Second)
		if st := a.status(); st.KDCs[0].Detached || !st.KDCs[0].Connected {
			t.Fatalf("after connecting anew: %+v", st.KDCs[0])
		}
	})
}

// TestReconnect cuts every connection while a request is under way: the next KDC gets it; the lost one is dialed again
// at growing intervals, and told of every session.
func TestReconnect(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.connect("b", "a")
		w.kdcs[0].set(func(s *script) { s.mute = true })
		a.in(func(acq *acquirer) { acq.destroy(acq.peers["b"].sessions[0], "test") })
		pkt := datagram(a, b, 9, "cut")
		a.host.TUN.Inject(pkt)
		synctest.Wait()
		w.net.Refuse(kdcAddress(0), true)
		w.net.Cut(kdcAddress(0))
		b.wants(pkt)

		time.Sleep(time.Minute)
		st := b.status()
		if k := st.KDCs[0]; k.Connected || k.Fault == "" || k.For < 55 {
			t.Fatalf("%+v", k)
		}
		before := len(heard[*control.Hello](w.kdcs[0], "b"))
		w.net.Refuse(kdcAddress(0), false)
		time.Sleep(2 * lastBackoff)
		if k := b.status().KDCs[0]; !k.Connected || k.Fault != "" {
			t.Fatalf("%+v", k)
		}
		hellos := heard[*control.Hello](w.kdcs[0], "b")
		if len(hellos) != before+1 || hellos[before].Boot != hellos[0].Boot || hellos[before].Sessions == 0 {
			t.Fatalf("%d Hellos, the last %+v", len(hellos), hellos[len(hellos)-1])
		}
		reports := heard[*control.SessionReport](w.kdcs[0], "b")
		last := reports[len(reports)-1]
		if !last.Last || len(last.Opened) != int(hellos[before].Sessions) {
			t.Fatalf("%+v", last)
		}
	})
}

// TestBackoff: the pauses between failing dials grow to a limit.
func TestBackoff(t *testing.T) {
	inWorld(t, 1, nil, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) {
			s.reply = func(l *line, e control.Envelope) bool {
				l.conn.Send(e.ID, &control.Refusal{Refused: control.TypeHello, Reason: control.Conflict})
				l.conn.Shutdown(time.Second)
				return true
			}
		})
		a := w.add("a", 1)
		time.Sleep(2 * time.Minute)
		n := len(heard[*control.Hello](w.kdcs[0], "a"))
		if n < 20 || n > 60 {
			t.Errorf("%d dials in two minutes", n)
		}
		if k := a.status().KDCs[0]; k.Connected || k.Fault != errDisplaced.Error() {
			t.Errorf("%+v", k)
		}
	})
}

// TestDialBackoff: a KDC that is away is dialed more slowly, but never given up, and still found soon when it is back; one
// that hangs up is left in peace for longer.
func TestDialBackoff(t *testing.T) {
	for _, tt := range []struct {
		name        string
		dial        func() (net.Conn, error)
		least, most int32 // in an hour
	}{
		{"away", func() (net.Conn, error) { return nil, syscall.ECONNREFUSED }, 6500, 8000},
		{"hangs up", func() (net.Conn, error) {
			near, far := net.Pipe()
			return near, far.Close()
		}, 600, 900},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, nil, func(t *testing.T, w *world) {
				a := w.prepare("a", 1)
				var dials atomic.Int32
				s := New(Options{Identity: a.identity, Log: slog.New(slog.DiscardHandler), Host: Host{
					Queue{a.host.TUN, a.host.UDP, a.host.Wait}, nil, a.host.Route,
					func(context.Context, string) (net.Conn, error) { dials.Add(1); return tt.dial() },
					a.host.MTU,
				}})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- s.Run(ctx) }()
				time.Sleep(time.Second)
				if n := dials.Load(); n < 3 || n > 5 {
					t.Errorf("%d dials in the first second", n)
				}
				time.Sleep(time.Hour)
				if n := dials.Load(); n < tt.least || n > tt.most {
					t.Errorf("%d dials in an hour", n)
				}
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestRenewal: connections are made anew within the hour and a quarter, make before break: a request on the old one and
// an offer on it are still answered.
func TestRenewal(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.hold = true })
		hellos := func() int { return len(heard[*control.Hello](kdc, "a")) }
		for deadline := time.Now().Add(90 * time.Minute); hellos() == 1; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the connection is not renewed")
			}
			if kdc.line("a").conn.Err() != nil {
				t.Fatal("the old connection ended before the new one was made")
			}
		}
		lines := kdc.linesOf("a")
		if lines[0].conn.Err() != nil {
			t.Fatal("the old connection ended at once")
		}
		// An offer on the old connection is accepted on it.
		before := len(heard[*control.KeyAccept](kdc, "a"))
		kdc.mu.Lock()
		kdc.lines["a"] = lines[0]
		kdc.mu.Unlock()
		pkt := datagram(b, a, 9, "in flight")
		b.host.TUN.Inject(pkt)
		synctest.Wait()
		if n := len(heard[*control.KeyAccept](kdc, "a")); n != before+1 {
			t.Fatal("the offer on the old connection was not accepted")
		}
		kdc.mu.Lock()
		accepted := kdc.received[slices.IndexFunc(kdc.received, func(r received) bool {
			return r.from == "a" && r.Message.Type() == control.TypeKeyAccept
		})]
		kdc.mu.Unlock()
		if accepted.line != lines[0] {
			t.Fatal("the offer was accepted on another connection than its own")
		}
		time.Sleep(retireOld + time.Second)
		if lines[0].conn.Err() == nil || lines[1].conn.Err() != nil {
			t.Fatalf("old %v, new %v", lines[0].conn.Err(), lines[1].conn.Err())
		}
		if k := a.status().KDCs[0]; !k.Connected || k.Fault != "" {
			t.Fatalf("%+v", k)
		}
	})
}

// TestDeadKDC: a KDC that falls silent is noticed after DeadAfter, though nothing closes.
func TestDeadKDC(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.kdcs[0].set(func(s *script) { s.reply = func(*line, control.Envelope) bool { return true } })
		time.Sleep(control.DeadAfter - time.Second)
		if n := len(heard[*control.Ping](w.kdcs[0], "a")); n != 2 || !a.status().KDCs[0].Connected {
			t.Fatalf("%d pings in %v", n, control.DeadAfter-time.Second)
		}
		time.Sleep(2 * time.Second)
		if a.status().KDCs[0].Connected {
			t.Fatal("a silent KDC counts as connected")
		}
	})
}

// TestReportWhileGreeting: a session made after the full report but before the Welcome is reported all the same.
func TestReportWhileGreeting(t *testing.T) {
	inWorld(t, 2, nil, func(t *testing.T, w *world) {
		w.kdcs[1].set(func(s *script) { s.silent = true })
		w.add("a", 1)
		w.add("b", 2)
		synctest.Wait()
		a, _ := w.connect("a", "b")
		time.Sleep(2 * reportDelay)
		synctest.Wait()
		reports := heard[*control.SessionReport](w.kdcs[1], "a")
		last := reports[len(reports)-1]
		if len(reports) != 2 || last.Last || len(last.Opened) != 1 || last.Opened[0].ID != a.id {
			t.Fatalf("%d reports, the last %+v", len(reports), last)
		}
		if n := len(heard[*control.SessionReport](w.kdcs[0], "a")); n != 1 {
			t.Errorf("the KDC that issued the session had %d reports, want the one after Hello", n)
		}
	})
}
