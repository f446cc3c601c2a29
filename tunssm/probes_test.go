package tunssm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// probe is one sealed by s as its side would send it.
func probe(t *testing.T, s *session, kind packet.ProbeKind, id uint32) []byte {
	t.Helper()
	return seal(t, s, packet.Probe, 0, packet.ProbeMessage{Kind: kind, ID: id}.Append(nil))
}

// TestEchoesAreLimited: a peer gets so many replies and no more, and its data passes all the same.
func TestEchoesAreLimited(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		_, s := w.connect("a", "b") // b's
		a, b := w.stations["a"], w.stations["b"]
		before := len(w.net.Sent())
		const flood = 4 * probeBurst
		for range flood {
			a.host.UDP.Forge(b.host.UDP.Addr(), probe(t, s, packet.Echo, 7))
		}
		a.drops(dropProbe, flood-probeBurst)
		if n := len(w.net.Sent()) - before; n != probeBurst {
			t.Errorf("%d replies to %d echoes, want %d", n, flood, probeBurst)
		}
		w.send("b", "a", "data")
		time.Sleep(time.Second)
		if _, err := b.Ping(t.Context(), "a"); err != nil {
			t.Errorf("a ping after the flood: %v", err)
		}
	})
}

// TestProbesDoNotStall: whatever probes a peer sends, the inbound loop does not wait for a busy acquirer.
func TestProbesDoNotStall(t *testing.T) {
	tests := []struct {
		name string
		kind packet.ProbeKind
		id   uint32
		ping bool // while a ping of ours is under way
		room int  // for events
	}{
		{"replies to nothing", packet.Reply, 7, false, 0},
		{"replies to proofs", packet.Reply, proofID, true, 0},
		{"replies while one is awaited", packet.Reply, 7, true, probeBurst},
		{"closes", packet.Close, 0, false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
				_, s := w.connect("a", "b") // b's
				w.connect("a", "c")
				a, b, c := w.stations["a"], w.stations["b"], w.stations["c"]
				a.received()
				ctx, cancel := context.WithCancel(t.Context())
				pinged := make(chan struct{})
				if tt.ping {
					w.net.SetRule(fake.Drop)
					go func() { a.Ping(ctx, "c"); close(pinged) }()
					synctest.Wait()
					w.net.SetRule(nil)
				} else {
					close(pinged)
				}
				a.in(func(acq *acquirer) { // it is busy
					for len(acq.events) < cap(acq.events)-tt.room {
						acq.events <- func(*acquirer) {}
					}
					for range 2 * cap(a.data.events) {
						a.host.UDP.Forge(b.host.UDP.Addr(), probe(t, s, tt.kind, tt.id))
					}
					pkt := datagram(c, a, 9, "from another peer")
					c.host.TUN.Inject(pkt)
					time.Sleep(time.Millisecond)
					select {
					case <-a.host.TUN.Packets():
					default:
						t.Error("the loop is stalled")
					}
				})
				cancel()
				<-pinged
			})
		})
	}
}

// TestNeverConfirmedIsClosed: a requester that hears nothing of its session tells the responder, which may have heard
// it, so that neither keeps half of one.
func TestNeverConfirmedIsClosed(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		w.net.SetRule(func(d fake.Datagram) []fake.Delivery {
			if d.Src == b.host.UDP.Addr() {
				return nil
			}
			return fake.Through(d)
		})
		pkt := datagram(a, b, 9, "one way")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
		if s := b.sending("a"); s == nil || b.state(s) != confirmed {
			t.Fatal("the responder has not heard the requester")
		}
		time.Sleep(control.ConfirmTimeout + time.Millisecond)
		for from, to := range map[*station]string{a: "b", b: "a"} {
			if n := len(from.sessions(to)); n != 0 {
				t.Errorf("%s keeps %d sessions with %s", from.name, n, to)
			}
		}
	})
}

// TestUnsentSessionEnds: a session that this side does not send on ends when it is idle, as any other.
func TestUnsentSessionEnds(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		b := w.stations["b"]
		w.net.SetRule(fake.Drop)
		b.in(func(acq *acquirer) { // another boot of a made a session that nothing was heard on
			p := acq.peers["a"]
			p.boot[0]++
			acq.chooseSession(p)
			if p.sending.Load() != nil {
				t.Error("there is a session to send on")
			}
		})
		time.Sleep(180*time.Second + responderLag + 2*tendInterval)
		if n := len(b.sessions("a")); n != 0 {
			t.Errorf("%d sessions, none sent on and all idle", n)
		}
	})
}

// TestRefusedIsNoContact: a KDC that will not have us gives no grace.
func TestRefusedIsNoContact(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) { s.terms = func(x *control.Terms) { x.GraceMillis = 60_000 } })
		w.connect("a", "b")
		w.kdcs[0].set(func(s *script) { s.refuse = control.Suspended })
		w.net.Cut(kdcAddress(0))
		for range 62 {
			w.stations["a"].host.TUN.Inject(datagram(w.stations["a"], w.stations["b"], 9, "x"))
			time.Sleep(time.Second)
		}
		if n := len(w.stations["a"].sessions("b")); n != 0 {
			t.Errorf("%d sessions outlive grace", n)
		}
	})
}
