package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestRevocationIsRecorded: that a session was revoked, why, and that each side has said so.
func TestRevocationIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.a.acks()
		p.b.acks()
		if _, err := p.RevokeSessions(t.Context(), SessionFilter{ID: keys.Session}, time.Second); err != nil {
			t.Fatal(err)
		}
		p.stop()
		got := p.ledger.events(t, "revoke")
		if len(got) != 1 || got[0].Session != keys.Session || got[0].Requester != "a" || got[0].Responder != "b" ||
			got[0].Reason != control.Operator.String() {
			t.Errorf("on record: %+v", got)
		}
		if n := len(p.ledger.events(t, "revoke.acked")); n != 2 {
			t.Errorf("%d acks on record", n)
		}
	})
}

// TestForeignReceipts: a receipt is given by the run that has the session, and for what was asked of it.
func TestForeignReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		id := []control.SessionID{keys.Session}
		owed := func(why string) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.live["a"].owed[keys.Session] == nil {
				t.Errorf("%s settles it", why)
			}
		}
		p.apply(onlyPing) // narrows
		p.a.send(0, &control.RevokeAck{Sessions: id})
		owed("an ack of a revocation that was not")
		if _, err := p.RevokeSessions(t.Context(), SessionFilter{ID: keys.Session}, 0); err != nil {
			t.Fatal(err)
		}
		p.onRevokeAck(&connection{k: p.KDC, name: "a", boot: control.NewBoot()}, &control.RevokeAck{Sessions: id})
		owed("another run")
		p.a.send(0, &control.NarrowAck{Session: keys.Session, AsOf: p.snapshot.Load().asOf})
		owed("an ack of what the revocation has made needless")
		p.a.send(0, &control.RevokeAck{Sessions: id})
		synctest.Wait()
		if n := len(p.live["a"].owed); n != 0 {
			t.Errorf("%d acks owed", n)
		}
	})
}
