package kdc

import (
	"fmt"
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

// TestVisitsAreLimited: a peer that connects over and over is refused as busy, writes no more into the audit record, and is
// welcome again a moment later; others are meanwhile.
func TestVisitsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		hello := &control.Hello{Boot: control.NewBoot(), AES: true, Reach: control.Reach{Port: 7601}}
		const visits = visitBurst + 10
		busy := 0
		for range visits {
			m := p.knock(p.a.id, "198.51.100.1", hello)
			if r, ok := m.next().(*control.Refusal); ok && r.Reason == control.Busy {
				busy++
			}
			m.close()
			synctest.Wait()
		}
		if busy != visits-(visitBurst-1) { // the pair's own was the first
			t.Errorf("%d of %d visits refused as busy", busy, visits)
		}
		if n := len(p.ledger.events(t, "online")); n > visitBurst+1 {
			t.Errorf("%d lines of the audit record", n)
		}
		p.join(p.add(NewPeer{Name: "c"}), "198.51.100.1")
		time.Sleep(time.Second / visitRate)
		p.joinAs(p.a.id, "198.51.100.1", hello)
	})
}

// TestRefusedReportsAreOneLine: the sessions that are refused in a second are two lines of the audit record, and none of
// them is lost from their count.
func TestRefusedReportsAreOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		const reports, each = 50, 4
		for range reports {
			m := &control.SessionReport{}
			for range each {
				m.Opened = append(m.Opened, control.SessionEntry{
					ID: control.NewSessionID(), Requester: "a", Responder: "nobody", BootA: p.a.boot,
				})
			}
			p.a.send(0, m)
		}
		time.Sleep(2 * denialsFor)
		lines, sum := p.ledger.events(t, "report.refused"), uint64(0)
		for _, e := range lines {
			sum += e.Count
		}
		if len(lines) != 2 || sum != reports*each {
			t.Errorf("%d lines for %d sessions, want 2 for %d", len(lines), sum, reports*each)
		}
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

func TestRequestsInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		r, err := control.NewRequester(p.a.self(), control.Want{Flow: ping(p.a.address(), p.b.address())}, 9)
		if err != nil {
			t.Fatal(err)
		}
		request := r.Request()
		for i := range maxRequests + 3 {
			m := *request
			m.Na = control.Nonce{byte(i), byte(i >> 8)}
			p.a.send(1, &m)
		}
		for range 3 {
			if got := p.a.denied(); got != control.Busy {
				t.Errorf("denied for %s", got)
			}
		}
		for range maxRequests {
			if got := p.a.denied(); got != control.Offline {
				t.Fatalf("denied for %s", got)
			}
		}
		if len(p.pending) != 0 {
			t.Errorf("%d exchanges still pending", len(p.pending))
		}
	})
}

// TestOffersToOneAreBounded: however many ask for it, one responder has no more than so many offers to answer, and what is
// above is denied at once.
func TestOffersToOneAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		var askers []*module
		for i := range maxOffers/maxRequests + 1 {
			askers = append(askers, p.join(p.add(NewPeer{Name: fmt.Sprint("c", i)}), fmt.Sprint("198.51.100.", 10+i)))
		}
		for _, m := range askers {
			m.welcome.Config.AsOf = p.snapshot.Load().asOf
			r, err := control.NewRequester(m.self(), control.Want{Flow: ping(m.address(), p.b.address())}, 9)
			check(t, err)
			request := r.Request()
			for i := range maxRequests {
				q := *request
				q.Na = control.Nonce{byte(i), byte(i >> 8)}
				m.send(1, &q)
			}
		}
		denied := map[control.Reason]int{}
		for _, m := range askers {
			for range maxRequests {
				denied[m.denied()]++
			}
		}
		if denied[control.Busy] != maxRequests || denied[control.Offline] != maxOffers {
			t.Errorf("denied %v, want %d as busy and the rest, which are not answered, as offline", denied, maxRequests)
		}
	})
}
