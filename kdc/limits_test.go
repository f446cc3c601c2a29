package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// TestRedemptionsAreLimited: one token's holder cannot make the store change without end.
func TestRedemptionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		token, other := c.addToken("a"), c.addToken("b")
		for range redeemBurst {
			if _, err := c.redeem(token); err != nil {
				t.Fatal(err)
			}
		}
		before := c.snapshot.Load().revision
		if _, err := c.redeem(token); err == nil || c.snapshot.Load().revision != before {
			t.Error("one redemption too many changed the store")
		}
		if _, err := c.redeem(other); err != nil {
			t.Errorf("another peer's token: %v", err)
		}
		time.Sleep(time.Second / redeemRate)
		if _, err := c.redeem(token); err != nil {
			t.Errorf("a second later: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := c.redeem(c.addToken("c")); err != nil || len(c.redemptions) != 1 {
			t.Errorf("%v; %d tokens are counted, want 1", err, len(c.redemptions))
		}
	})
}

// TestMessagesAreLimited: what one peer may send is bounded by kind, and what is too much costs no audit event.
func TestMessagesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		m := *p.a.anyRequest(p.b)
		m.SPI = 0 // denied at once
		const sent = requestBurst + 100
		busy := 0
		for range sent {
			p.a.send(1, &m)
			if p.a.denied() == control.Busy {
				busy++
			}
		}
		if busy != sent-requestBurst {
			t.Errorf("%d requests denied as busy, want %d", busy, sent-requestBurst)
		}
		for range askBurst + 10 {
			p.a.send(2, &control.Lookup{Name: "b"})
		}
		if n := len(p.a.drained()); n != askBurst {
			t.Errorf("%d lookups answered, want %d", n, askBurst)
		}
		for range reportBurst + 1 {
			if p.a.conn.Send(0, &control.SessionReport{}) != nil {
				break
			}
		}
		<-p.a.ended
		acquire(p.join(p.a.id, "198.51.100.1"), p.b) // and the next connection begins afresh
	})
}

// TestEqualDenialsAreOneLine: the first stands in the audit record at once, and those of the same second in one line.
func TestEqualDenialsAreOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, `{"schema":"ssmnet.policy/v1"}`)
		for range 10 {
			p.a.request(p.b.address())
			p.a.denied()
		}
		p.a.ask(control.Want{Peer: "nobody"})
		p.a.denied()
		time.Sleep(2 * denialsFor)
		p.a.request(p.b.address())
		p.a.denied()
		p.a.request(p.b.address())
		p.a.denied()
		p.stop()
		var lines []uint64
		var unknown int
		for _, e := range p.ledger.events(t, "denial") {
			if e.Reason == control.Unknown.String() {
				unknown++
				continue
			}
			lines = append(lines, e.Count)
			if e.Requester != "a" || e.Responder != "b" || e.Flow == "" {
				t.Errorf("a line without its peers: %+v", e)
			}
		}
		if len(lines) != 4 || lines[0] != 0 || lines[1] != 9 || lines[2] != 0 || lines[3] != 1 || unknown != 1 {
			t.Errorf("lines with counts %v, %d of the other reason", lines, unknown)
		}
		if n := len(p.repeats); n != 0 {
			t.Errorf("%d denials are still counted", n)
		}
	})
}
