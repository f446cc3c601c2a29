package tunssm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// TestRevoke: the named sessions go at once, both sides give receipts, and the next packet asks anew.
func TestRevoke(t *testing.T) {
	inWorld(t, 2, []string{"a", "b"}, func(t *testing.T, w *world) {
		x, y := w.connect("a", "b")
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[1]
		time.Sleep(time.Second)
		foreign := control.NewSessionID()
		for _, name := range []string{"a", "b"} {
			kdc.tell(name, &control.Revoke{Sessions: []control.SessionID{foreign, x.id}, Reason: control.Operator})
		}
		synctest.Wait()
		for _, s := range []*station{a, b} {
			acks := heard[*control.RevokeAck](kdc, s.name)
			if len(acks) != 1 || !slices.Equal(acks[0].Sessions, []control.SessionID{foreign, x.id}) {
				t.Fatalf("%s acks %v", s.name, acks)
			}
			if st := s.status(); len(st.Sessions) != 0 {
				t.Fatalf("%s keeps %+v", s.name, st.Sessions)
			}
		}
		for _, s := range []*session{x, y} {
			if _, err := s.sealer.Seal(nil, packet.Probe, 0, nil); !errors.Is(err, packet.ErrDestroyed) {
				t.Errorf("a revoked session's key seals: %v", err)
			}
			frames := make([]packet.Frame, 1)
			if s.opener.Open(frames); !errors.Is(frames[0].Err, packet.ErrDestroyed) {
				t.Errorf("a revoked session's key opens: %v", frames[0].Err)
			}
		}
		again, _ := w.connect("a", "b")
		if again.id == x.id {
			t.Fatal("the revoked session lives")
		}
	})
}

// TestDestroyLeavesNoTimer: what a session was to do later goes with it.
func TestDestroyLeavesNoTimer(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		before, after := 0, 0
		a.in(func(acq *acquirer) { before = len(acq.timers.agenda) })
		s, _ := w.connect("a", "b")
		a.in(func(acq *acquirer) { acq.destroy(s, "test") })
		time.Sleep(reportDelay)
		synctest.Wait()
		a.in(func(acq *acquirer) { after = len(acq.timers.agenda) })
		if after != before {
			t.Fatalf("%d timers after the session, %d before", after, before)
		}
	})
}

// TestRevokeStopsTheFlow: with policy changed, what was flowing is answered.
func TestRevokeStopsTheFlow(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		a, b, kdc := w.stations["a"], w.stations["b"], w.kdcs[0]
		kdc.set(func(s *script) { s.decide = no(control.Suspended) })
		for _, name := range []string{"a", "b"} {
			kdc.tell(name, &control.Revoke{Sessions: []control.SessionID{s.id}, Reason: control.Suspended})
		}
		synctest.Wait()
		pkt := datagram(a, b, 9, "cut")
		a.host.TUN.Inject(pkt)
		a.answered(pkt, packet.AdminProhibited)
		b.wants()
	})
}

// TestGrantEnds: a session does not outlive the grant it rests on.
func TestGrantEnds(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		w.kdcs[0].set(func(s *script) {
			s.terms = func(x *control.Terms) {
				x.Until, x.IdleMillis, x.RekeyMillis = time.Now().Add(time.Hour).Unix(), 0, 0
			}
		})
		w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		time.Sleep(time.Hour - time.Second)
		if len(a.sessions("b")) != 1 || len(b.sessions("a")) != 1 {
			t.Fatal("the session ends before its grant")
		}
		time.Sleep(time.Second)
		if len(a.sessions("b")) != 0 || len(b.sessions("a")) != 0 {
			t.Fatal("the session outlives its grant")
		}
	})
}

// TestStop: an SSM that stops says so to its peers and to every KDC, and closes the host's parts.
func TestStop(t *testing.T) {
	inWorld(t, 2, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
		one, _ := w.connect("a", "b")
		two, _ := w.connect("c", "a")
		a, b, c := w.stations["a"], w.stations["b"], w.stations["c"]
		time.Sleep(time.Second)
		a.stop()
		a.ended(nil)
		if len(b.sessions("a")) != 0 || len(c.sessions("a")) != 0 {
			t.Error("a peer keeps its session")
		}
		synctest.Wait()
		for i, kdc := range w.kdcs {
			var closed []control.SessionID
			for _, r := range heard[*control.SessionReport](kdc, "a") {
				closed = append(closed, r.Closed...)
			}
			if len(closed) != 2 || !slices.Contains(closed, one.id) || !slices.Contains(closed, two.id) {
				t.Errorf("KDC %d hears that %v are closed", i, closed)
			}
		}
		if _, err := a.host.TUN.TryReadFrame(nil); err == nil {
			t.Error("the TUN is open")
		}
		if a.SSM.data.sendOne([]byte{1}, underlay(2)) == nil {
			t.Error("the socket is open")
		}
		for _, s := range []*session{one, two} {
			if _, err := s.sealer.Seal(nil, packet.Probe, 0, nil); s.peer.name == "b" && err == nil {
				t.Error("a key survives the SSM")
			}
		}
	})
}

// TestStopWithDeafKDC: a KDC that does not read cannot keep the SSM from stopping.
func TestStopWithDeafKDC(t *testing.T) {
	inWorld(t, 1, []string{"a"}, func(t *testing.T, w *world) {
		gate := make(chan struct{})
		w.kdcs[0].set(func(s *script) { s.reply = func(*line, control.Envelope) bool { <-gate; return true } })
		w.stations["a"].in(func(acq *acquirer) {
			for range 20 {
				acq.reply(acq.links.list[0].conn, 0, &control.Lookup{Name: "fill"})
			}
		})
		began := time.Now()
		w.stations["a"].stop()
		w.stations["a"].ended(nil)
		if took := time.Since(began); took > goodbyeTimeout {
			t.Errorf("stopping took %v", took)
		}
		close(gate)
	})
}

// TestRunCause: a context that was cancelled for a reason hands the reason on.
func TestRunCause(t *testing.T) {
	inWorld(t, 1, []string{"b"}, func(t *testing.T, w *world) {
		a := w.prepare("a", 7)
		a.run(a.identity)
		a.stop()
		a.ended(nil)
		reason := errors.New("reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(reason)
		h := w.net.Host(underlay(8))
		s := New(Options{Identity: a.identity, Log: a.data.log, Host: Host{Queue{h.TUN, h.UDP, h.Wait}, nil, h.Route, h.Dial, h.MTU}})
		if err := s.Run(ctx); err != reason {
			t.Fatalf("Run: %v", err)
		}
	})
}

// TestPeerCloses: a close probe ends that session alone.
func TestPeerCloses(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		first, _ := w.connect("a", "b")
		a, b := w.stations["a"], w.stations["b"]
		a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
		goodbye := packet.ProbeMessage{Kind: packet.Close}.Append(nil)
		synctest.Wait()
		b.host.UDP.Forge(a.host.UDP.Addr(), seal(t, first, packet.Probe, 0, goodbye))
		if list := b.sessions("a"); len(list) != 1 || list[0].id == first.id {
			t.Fatalf("%d sessions are left", len(list))
		}
		pkt := datagram(a, b, 9, "on the other")
		a.host.TUN.Inject(pkt)
		b.wants(pkt)
	})
}

// TestReports: opened and closed sessions are told to every KDC but the one that issued them, together, within 200 ms.
func TestReports(t *testing.T) {
	inWorld(t, 2, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
		since := func(kdc *center) []*control.SessionReport { return heard[*control.SessionReport](kdc, "a")[1:] }
		one, _ := w.connect("a", "b")
		two, _ := w.connect("a", "c")
		time.Sleep(reportDelay)
		synctest.Wait()
		if n := len(since(w.kdcs[0])); n != 0 {
			t.Errorf("the KDC that issued the sessions hears of them in %d reports", n)
		}
		r := since(w.kdcs[1])
		if len(r) != 1 || len(r[0].Opened) != 2 || r[0].Last {
			t.Fatalf("%+v", r)
		}
		for i, s := range []*session{one, two} {
			e := r[0].Opened[i]
			if e.ID != s.id || e.Requester != "a" || e.Responder != s.peer.name || e.BootB != s.boot ||
				e.BootA != w.stations["a"].acq.boot || e.Digest != control.DigestSelectors(allFlows) {
				t.Errorf("%+v", e)
			}
		}
		w.stations["a"].in(func(acq *acquirer) { acq.destroy(one, "test"); acq.destroy(one, "test again") })
		time.Sleep(reportDelay)
		synctest.Wait()
		for i, kdc := range w.kdcs {
			r := since(kdc)
			if last := r[len(r)-1]; !slices.Equal(last.Closed, []control.SessionID{one.id}) || len(last.Opened) != 0 {
				t.Errorf("KDC %d: %+v", i, last)
			}
		}
	})
}

// TestManySessions: one peer cannot have more than maxPerPeer, and the full report goes in parts.
func TestManySessions(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a, b := w.stations["a"], w.stations["b"]
		for range maxPerPeer + 5 {
			a.in(func(acq *acquirer) { acq.step2Request(&attempt{goal: goal{peer: "b"}, began: time.Now()}) })
			synctest.Wait()
		}
		if x, y := len(a.sessions("b")), len(b.sessions("a")); x != maxPerPeer || y != maxPerPeer {
			t.Fatalf("%d and %d sessions", x, y)
		}
		if s := a.sending("b"); s.order != maxPerPeer+5 {
			t.Fatalf("a sends on order %d", s.order)
		}
		time.Sleep(supersededFor)
		if n := len(a.sessions("b")); n != 1 {
			t.Fatalf("%d sessions are left", n)
		}
	})
	var many []*session
	for range 2*control.MaxReported + 1 {
		many = append(many, &session{id: control.NewSessionID(), since: time.Now()})
	}
	if list := chunks(many, make([]control.SessionID, control.MaxReported+1)); len(list) != 5 {
		t.Fatalf("%d reports, want 3 and 2", len(list))
	}
}
