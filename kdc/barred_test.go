package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestLateAck: a peer that is let in no more, and whom the revocation reaches late, on the connection that it has, still
// gives its receipt.
func TestLateAck(t *testing.T) {
	for name, cut := range map[string]func(*testing.T, pair) ([]Receipt, error){
		"suspended": func(t *testing.T, p pair) ([]Receipt, error) { return p.SuspendPeer(t.Context(), "a") },
		"removed":   func(t *testing.T, p pair) ([]Receipt, error) { return p.RemovePeer(t.Context(), "a") },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, aToB)
			acquire(p.a, p.b)
			p.b.acks()
			rs, err := cut(t, p)
			if got := states(rs); err != nil || got["a"] != ReceiptPending || got["b"] != ReceiptAcked {
				t.Fatalf("%s: receipts %+v, %v", name, rs, err)
			}
			time.Sleep(ackWait - 2*receiptWait)
			p.a.acks()
			<-p.a.ended
			time.Sleep(2 * auditSync)
			synctest.Wait()
			if got := p.ledger.events(t, "revoke.acked"); len(got) != 2 || got[1].Peer != "a" {
				t.Errorf("%s: the audit record has the receipts %+v", name, got)
			}
		})
	}
}

// TestAckOfSuspended: a suspended peer whose connection has ended before it was told is let in to be told, and for
// nothing else; another run of it, which holds no session, is not.
func TestAckOfSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.b.acks()
		p.a.close()
		synctest.Wait()
		rs, err := p.SuspendPeer(t.Context(), "a")
		if got := states(rs); err != nil || got["a"] != ReceiptPending || got["b"] != ReceiptAcked {
			t.Fatalf("receipts %+v, %v", rs, err)
		}
		other := p.knock(p.a.id, "198.51.100.1", &control.Hello{Boot: control.NewBoot()})
		if r, ok := other.next().(*control.Refusal); !ok || r.Reason != control.Suspended {
			t.Error("another run of a suspended peer is not refused")
		}
		first := p.knock(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
		await[*control.Revoke](first)
		again := p.knock(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
		<-first.ended
		if r, ok := again.next().(*control.Revoke); !ok || r.Sessions[0] != keys.Session {
			t.Fatal("a suspended peer is not told what it owes")
		}
		again.send(2, report(keys, p.a.boot, p.b.boot, true))
		again.send(3, &control.Ping{})
		again.send(4, p.anyRequest(again))
		again.send(0, &control.RevokeAck{Sessions: []control.SessionID{keys.Session}})
		if r, ok := again.next().(*control.Refusal); !ok || r.Reason != control.Suspended {
			t.Error("a suspended peer is taken for more than its acks")
		}
		<-again.ended
		time.Sleep(2 * auditSync)
		synctest.Wait()
		if got := p.ledger.events(t, "revoke.acked"); len(got) != 2 || got[1].Peer != "a" || got[1].Session != keys.Session {
			t.Errorf("the audit record has the receipts %+v", got)
		}
		last := p.knock(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot})
		if r, ok := last.next().(*control.Refusal); !ok || r.Reason != control.Suspended {
			t.Error("a suspended peer that owes nothing is not refused")
		}
	})
}

// TestBarredNarrowAck: a peer that owes the ack of a Narrow when it is suspended gives it, and has nothing more to wait for.
func TestBarredNarrowAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.apply(onlyPing)
		p.b.send(0, &control.SessionReport{Closed: []control.SessionID{keys.Session}})
		again := p.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot})
		n := await[*control.Narrow](again)
		if _, err := p.SuspendPeer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		again.send(0, &control.NarrowAck{Session: n.Session, AsOf: n.AsOf})
		if r := await[*control.Refusal](again); r.Reason != control.Suspended || time.Since(start) != 0 {
			t.Errorf("refused as %s after %s", r.Reason, time.Since(start))
		}
	})
}

// TestRemovedAndAddedAgain: a peer under the name of a removed one has nothing of it, and takes nothing from what the removed
// one still has to ack.
func TestRemovedAndAddedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.b.acks()
		if _, err := p.RemovePeer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		late, err := p.dial(p.a.id, "198.51.100.1")
		if err == nil {
			late.Close()
			t.Error("the removed peer's key still opens")
		}
		again := p.join(p.add(NewPeer{Name: "a"}), "198.51.100.3")
		if got := again.drained(); len(got) != 0 {
			t.Errorf("told %+v", got)
		}
		p.a.send(0, &control.RevokeAck{Sessions: []control.SessionID{keys.Session}})
		<-p.a.ended
		synctest.Wait()
		if info, err := p.Peer("a"); err != nil || !info.Online || info.Boot != again.boot || info.Sessions != 0 {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// anyRequest is one that a module without a Welcome can make.
func (p pair) anyRequest(m *module) *control.KeyRequest {
	self := control.Self{Name: m.id.Name, KeyID: m.id.KeyID, Boot: m.boot}
	r, err := control.NewRequester(self, control.Want{Peer: "b"}, 9)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.Request()
}
