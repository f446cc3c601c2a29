package kdc

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// acks answers every Revoke for as long as the connection lives.
func (m *module) acks() {
	go func() {
		for {
			select {
			case e := <-m.inbox:
				if r, ok := e.Message.(*control.Revoke); ok {
					m.conn.Send(0, &control.RevokeAck{Sessions: r.Sessions})
				}
			case <-m.ended:
				return
			}
		}
	}()
}

func states(rs []Receipt) map[string]ReceiptState {
	m := map[string]ReceiptState{}
	for _, r := range rs {
		m[r.Peer] = r.State
	}
	return m
}

func TestRevokeSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.a.acks()
		p.b.acks()
		for _, f := range []SessionFilter{{}, {PairA: "a"}} {
			if _, err := p.RevokeSessions(t.Context(), f, 0); !errors.Is(err, ErrInvalid) {
				t.Errorf("filter %+v: %v", f, err)
			}
		}
		if _, err := p.RevokeSessions(t.Context(), SessionFilter{PairA: "a", PairB: "c"}, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("a pair without sessions: %v", err)
		}
		rs, err := p.RevokeSessions(t.Context(), SessionFilter{PairA: "b", PairB: "a"}, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got := states(rs)
		if len(rs) != 2 || rs[0].Session != keys.Session || got["a"] != ReceiptAcked || got["b"] != ReceiptAcked {
			t.Errorf("receipts %+v", rs)
		}
		if n := len(p.Sessions(SessionFilter{})); n != 0 {
			t.Errorf("%d live sessions", n)
		}
	})
}

// TestRevocationIsOwed: a side that was away is told when it comes back, however much later.
func TestRevocationIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.b.close()
		synctest.Wait()
		p.a.acks()
		start := time.Now()
		rs, err := p.RevokeSessions(t.Context(), SessionFilter{ID: keys.Session}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if got := states(rs); got["a"] != ReceiptAcked || got["b"] != ReceiptPending || time.Since(start) != 0 {
			t.Errorf("receipts %+v after %s: nobody is to be waited for", rs, time.Since(start))
		}
		p.a.close()
		time.Sleep(time.Hour)
		again := p.joinAs(p.b.id, "198.51.100.2", &control.Hello{Boot: p.b.boot, Sessions: 1})
		if got := await[*control.Revoke](again); !slices.Equal(got.Sessions, []control.SessionID{keys.Session}) ||
			got.Reason != control.Operator {
			t.Errorf("told %+v", got)
		}
		again.send(0, report(keys, p.a.boot, p.b.boot, true)) // crossed with the Revoke
		await[*control.Revoke](again)
		again.send(0, &control.RevokeAck{Sessions: []control.SessionID{keys.Session}})
		synctest.Wait()
		if n := len(p.live["b"].owed); n != 0 || len(p.Sessions(SessionFilter{})) != 0 {
			t.Errorf("%d acks owed, %d sessions", n, len(p.Sessions(SessionFilter{})))
		}
	})
}

func TestPolicyChangeRevokes(t *testing.T) {
	const wider = `{"schema":"ssmnet.policy/v1","grants":[{"id":"w","src":["a"],"dst":["b"],"allow":["*"]}]}`
	const none = `{"schema":"ssmnet.policy/v1","grants":[{"id":"n","src":["b"],"dst":["a"],"allow":["icmp"]}]}`
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		if r := p.apply(wider); len(r.Revoked) != 0 || len(p.Sessions(SessionFilter{})) != 1 {
			t.Errorf("a wider policy revoked %+v", r.Revoked)
		}
		update := await[*control.Update](p.a)
		if update.Config.AsOf != p.snapshot.Load().asOf {
			t.Errorf("Update of %s", update.Config.AsOf)
		}
		p.b.acks()
		start := time.Now()
		r := p.apply(none)
		if got := states(r.Revoked); got["a"] != ReceiptPending || got["b"] != ReceiptAcked {
			t.Errorf("receipts %+v", r.Revoked)
		}
		if took := time.Since(start); took != receiptWait {
			t.Errorf("waited %s for the ack that did not come", took)
		}
		if got := await[*control.Revoke](p.a); got.Sessions[0] != keys.Session || got.Reason != control.Changed {
			t.Errorf("told %+v", got)
		}
	})
}

func TestGrantEndsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(10 * time.Minute).UTC().Format(time.RFC3339)
		p := newPair(t, allowAll)
		p.wall.set(0)
		p.apply(fmt.Sprintf(untilPolicy, until))
		keys := acquire(p.a, p.b)
		if got := time.Unix(keys.Terms.Until, 0).UTC().Format(time.RFC3339); got != until {
			t.Errorf("terms end %s, want %s", got, until)
		}
		go keepAlive(p.a)
		go keepAlive(p.b)
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if n := len(p.Sessions(SessionFilter{})); n != 0 {
			t.Errorf("%d sessions outlive their grant", n)
		}
	})
}

func keepAlive(m *module) {
	for m.conn.Send(1, &control.Ping{}) == nil {
		select {
		case <-time.After(control.PingInterval):
		case <-m.ended:
			return
		}
	}
}

func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.a.acks()
		p.b.acks()
		rs, err := p.SuspendPeer(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := states(rs); len(rs) != 2 || got["a"] != ReceiptAcked || got["b"] != ReceiptAcked {
			t.Errorf("receipts %+v", rs)
		}
		<-p.a.ended
		m := p.knock(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot})
		if r, ok := m.next().(*control.Refusal); !ok || r.Reason != control.Suspended {
			t.Error("a suspended peer's Hello was not refused")
		}
		<-m.ended
		if err := p.ResumePeer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		back := p.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot})
		back.send(0, report(keys, p.a.boot, p.b.boot, true))
		await[*control.Revoke](back)
	})
}

func TestSuspendWithoutAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		acquire(p.a, p.b)
		rs, err := p.SuspendPeer(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := states(rs); got["a"] != ReceiptPending || got["b"] != ReceiptPending {
			t.Errorf("receipts %+v", rs)
		}
		p.a.send(3, p.a.anyRequest(p.b)) // nothing but acks is taken
		time.Sleep(ackWait - receiptWait)
		if got := await[*control.Refusal](p.a); got.Reason != control.Suspended {
			t.Errorf("refused for %s", got.Reason)
		}
		<-p.a.ended
	})
}

func (m *module) anyRequest(to *module) *control.KeyRequest {
	m.t.Helper()
	r, err := control.NewRequester(m.self(), control.Want{Flow: ping(m.address(), to.address())}, 9)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.Request()
}

func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		acquire(p.a, p.b)
		p.a.acks()
		p.b.acks()
		rs, err := p.RemovePeer(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		if got := states(rs); got["a"] != ReceiptAcked || got["b"] != ReceiptAcked {
			t.Errorf("receipts %+v", rs)
		}
		<-p.b.ended
		if _, err := p.dial(p.b.id, "198.51.100.2"); err == nil {
			t.Error("a removed peer's key still opens")
		}
		if _, err := p.Peer("b"); !errors.Is(err, ErrNotFound) {
			t.Errorf("removed peer: %v", err)
		}
		synctest.Wait()
		if len(p.live) != 1 {
			t.Error("something is remembered of the removed peer")
		}
		p.join(p.add(NewPeer{Name: "b"}), "198.51.100.2")
	})
}

// TestRevokedIsRemembered: a report that crossed with a revocation does not bring the session back, though both sides
// have acked; what was revoked long ago takes no room.
func TestRevokedIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		if _, err := p.RevokeSessions(t.Context(), SessionFilter{ID: keys.Session}, 0); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*module{p.a, p.b} {
			m.send(0, &control.RevokeAck{Sessions: await[*control.Revoke](m).Sessions})
		}
		synctest.Wait()
		if n := len(p.live["a"].owed) + len(p.live["b"].owed); n != 0 {
			t.Fatalf("%d acks owed", n)
		}
		p.a.send(0, report(keys, p.a.boot, p.b.boot, false))
		if got := await[*control.Revoke](p.a); got.Reason != control.Operator || got.Sessions[0] != keys.Session {
			t.Errorf("told %+v", got)
		}
		if n := len(p.Sessions(SessionFilter{})); n != 0 {
			t.Errorf("%d sessions are back", n)
		}
		r := revokedIDs{reasons: map[control.SessionID]control.Reason{}}
		for range 10 {
			r.add(control.NewSessionID(), control.Operator)
			time.Sleep(revokedFor / 5)
		}
		if len(r.reasons) != 6 || len(r.order) != 6 {
			t.Errorf("%d and %d remembered, want those of %s", len(r.reasons), len(r.order), revokedFor)
		}
	})
}

// TestAsOfIsCarried: whatever a KDC says that depends on its state says which state that is.
func TestAsOfIsCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.add(NewPeer{Name: "c"})
		now := p.snapshot.Load().asOf
		says := func(what string, got control.AsOf) {
			if got != now {
				t.Errorf("%s as of %s, want %s", what, got, now)
			}
		}
		says("Update", await[*control.Update](p.a).Config.AsOf)
		p.a.send(5, &control.Ping{})
		says("Pong", await[*control.Pong](p.a).AsOf)
		r := p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		says("KeyOffer", offer.Terms.AsOf)
		p.b.acceptOffer(offer)
		says("KeyGrant", p.a.granted(r).Terms.AsOf)
		if _, err := p.RevokeSessions(t.Context(), SessionFilter{All: true}, 0); err != nil {
			t.Fatal(err)
		}
		says("Revoke", await[*control.Revoke](p.a).AsOf)
		p.a.close()
		says("Welcome", p.join(p.a.id, "198.51.100.1").welcome.Config.AsOf)
	})
}
