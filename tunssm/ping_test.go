package tunssm

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/fake"
)

// TestPing measures with and without a session, and ends in each way it may.
func TestPing(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		slow := fake.Impairment{Delay: 5 * time.Millisecond}
		w.net.SetRule(slow.Rule(1))
		for range 3 { // the first acquires
			took, err := a.Ping(t.Context(), "b")
			if err != nil || took != 10*time.Millisecond {
				t.Fatalf("%v, %v", took, err)
			}
		}
		if n := len(heard[*control.KeyRequest](w.kdcs[0], "a")); n != 1 {
			t.Fatalf("%d requests", n)
		}
		if st := a.status().Sessions[0]; st.Tx.Packets != 0 || st.Rx.Packets != 0 {
			t.Errorf("probes count as data: %+v", st)
		}
		for name, reason := range map[string]control.Reason{
			"nobody": control.Unknown, "a": control.Unknown, "Not A Name": control.Unknown,
		} {
			var refused *RefusedError
			_, err := a.Ping(t.Context(), name)
			if !errors.As(err, &refused) || refused.Reason != reason || refused.Peer != name {
				t.Errorf("ping %q: %v", name, err)
			}
		}
	})
}

func TestPingFails(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.kdcs[0].set(func(s *script) { s.decide = no(control.Denied) })
		var refused *RefusedError
		if _, err := a.Ping(t.Context(), "b"); !errors.As(err, &refused) || refused.Reason != control.Denied {
			t.Fatalf("denied: %v", err)
		}
		if want := "no session with b: denied by policy"; refused.Error() != want {
			t.Errorf("%q, want %q", refused, want)
		}
		w.kdcs[0].set(func(s *script) { s.decide, s.mute = nil, true })
		short := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		if _, err := a.Ping(short(), "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("KDC silent: %v", err)
		}
		w.kdcs[0].set(func(s *script) { s.mute = false })
		time.Sleep(control.HoldTimeout)
		w.connect("a", "b")
		w.net.SetRule(fake.Drop)
		if _, err := a.Ping(short(), "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("peer silent: %v", err)
		}
		a.in(func(acq *acquirer) {
			if len(acq.pings.echoes) != 0 || len(acq.pings.waiting) != 0 {
				t.Error("a ping whose caller has gone is kept")
			}
			for id := range uint32(maxEchoes) {
				acq.pings.echoes[id] = &ping{done: make(chan error, 1)}
			}
		})
		if _, err := a.Ping(t.Context(), "b"); err == nil {
			t.Fatal("echoes without bound")
		}
	})
}

// TestPingEnds: a stopping SSM ends the pings under way, those that wait for a session too.
func TestPingEnds(t *testing.T) {
	inWorld(t, 1, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
		a := w.stations["a"]
		w.connect("a", "b")
		w.net.SetRule(fake.Drop)
		w.kdcs[0].set(func(s *script) { s.mute = true })
		failed := make(chan error)
		for _, name := range []string{"b", "c"} {
			go func() {
				_, err := a.Ping(context.Background(), name)
				failed <- err
			}()
		}
		synctest.Wait()
		a.stop()
		for range 2 {
			if err := <-failed; !errors.Is(err, ErrEnded) {
				t.Errorf("%v", err)
			}
		}
	})
}

// TestForgedReply: a reply counts only from the peer that was asked.
func TestForgedReply(t *testing.T) {
	inWorld(t, 1, []string{"a", "b", "c"}, func(t *testing.T, w *world) {
		w.connect("a", "b")
		_, other := w.connect("a", "c") // c's
		a := w.stations["a"]
		w.net.SetRule(fake.Drop)
		failed := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { _, err := a.Ping(ctx, "b"); failed <- err }()
		synctest.Wait()
		a.in(func(acq *acquirer) {
			for id := range acq.pings.echoes {
				reply := packet.ProbeMessage{Kind: packet.Reply, ID: id}.Append(nil)
				a.host.UDP.Forge(underlay(3), seal(t, other, packet.Probe, 0, reply))
			}
		})
		if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a reply of another peer is taken: %v", err)
		}
	})
}

// TestStatus looks at a session from both sides.
func TestStatus(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		s, _ := w.connect("a", "b")
		time.Sleep(time.Minute)
		for i, name := range []string{"a", "b"} {
			st := w.stations[name].status()
			if st.Name != name || !st.Ready || st.Interface != "fake0" || st.MTU != 1420 || st.Uptime != 60 ||
				st.Port != control.DefaultFramePort || st.Boot != w.stations[name].acq.boot || len(st.Sessions) != 1 {
				t.Fatalf("%+v", st)
			}
			x := st.Sessions[0]
			peer, role := "b", "requester"
			if i == 1 {
				peer, role = "a", "responder"
			}
			if x.ID != s.id || x.Peer != peer || x.Role != role || x.State != "sending" || x.Order != 1 || x.Age != 60 ||
				x.RekeyIn != 540 || x.Suite != "aes-256-gcm" || len(x.Selectors) != 2 || x.Endpoint != underlay(2-i) {
				t.Errorf("%+v", x)
			}
			if got := x.Tx.Packets + x.Rx.Packets; got != 1 {
				t.Errorf("%d packets", got)
			}
		}
	})
}

// TestPingUnanswered: what keeps silent is told apart, the peer from a KDC.
func TestPingUnanswered(t *testing.T) {
	for want, swallows := range map[control.Reason]bool{control.Offline: false, control.NoKDC: true} {
		inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
			w.kdcs[0].set(func(s *script) {
				s.mute = true
				s.reply = func(_ *line, e control.Envelope) bool { return swallows && e.Message.Type() == control.TypePing }
			})
			began := time.Now()
			_, err := w.stations["a"].Ping(t.Context(), "b")
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != want || time.Since(began) != control.HoldTimeout {
				t.Errorf("%v after %v, want %s after %v", err, time.Since(began), want, control.HoldTimeout)
			}
		})
	}
}

// letterbox is a socket in which datagrams lie.
type letterbox struct {
	UDP
	batch   []packet.Datagrams
	sends   int
	replies int
}

func (b *letterbox) TryReceive() ([]packet.Datagrams, error) { return b.batch, nil }

func (b *letterbox) Send(batch []packet.Datagrams, refused func(int, error)) {
	b.sends++
	b.replies += len(batch)
	for i := range batch {
		refused(i, syscall.EAGAIN)
	}
}

// TestRepliesWaitOnce: a peer's echoes, however many, have the loop wait for room in a full socket once a batch.
func TestRepliesWaitOnce(t *testing.T) {
	out, in, _ := pathPair(t)
	box := &letterbox{}
	in.host.UDP, in.queues[0].UDP = box, box
	for id := range uint32(20) {
		frame := seal(t, out.table.Load().sessions[1], packet.Probe, 0, packet.ProbeMessage{Kind: packet.Echo, ID: id}.Append(nil))
		box.batch = append(box.batch, packet.Datagrams{Pieces: [][]byte{frame}, Segment: len(frame), Addr: underlay(1)})
	}
	for range 2 { // the second time there is nothing to answer
		if _, err := in.receive(); err != nil {
			t.Fatal(err)
		}
		if dropped := in.drops[dropSend].Load(); box.sends != 1 || box.replies != 20 || dropped != 20 {
			t.Errorf("%d replies with %d sends, %d dropped", box.replies, box.sends, dropped)
		}
	}
}
