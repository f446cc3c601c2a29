package kdc

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// kept is how much the KDC keeps, by name.
func (k *KDC) kept() map[string]int {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	n := map[string]int{
		"peers": len(k.live), "sessions": len(k.sessions), "pending": len(k.pending), "waiting": len(k.waiting),
		"reissued": k.reissued, "outcomes": len(k.outcomes), "transports": len(k.transports),
		"redemptions": len(k.redemptions), "repeats": len(k.repeats), "timers": len(k.timers.set), "strangers": k.strangers.all + k.vouched.all,
		"revoked": len(k.revoked.reasons) - len(k.revoked.order),
	}
	for _, p := range k.live {
		n["of peers"] += len(p.sessions) + len(p.owed) + p.budget
		if c := p.conn; c != nil {
			n["of connections"] += len(c.requests) + len(c.offers) + len(c.roll)
		}
	}
	return n
}

// TestLongRunKeepsNothing: after a day in which sessions came and went in every way, each part of the KDC holds what it
// did before.
func TestLongRunKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		a, b := p.a.id, p.b.id
		p.a.close()
		p.b.close()
		time.Sleep(time.Minute)
		before := p.kept()
		bootA, bootB := control.NewBoot(), control.NewBoot()
		for hour := range 24 {
			if hour%6 == 5 {
				bootA = control.NewBoot()
			}
			p.a = p.joinAs(a, "198.51.100.1", &control.Hello{Boot: bootA, AES: true, Reach: control.Reach{Port: 7601}})
			p.b = p.joinAs(b, "198.51.100.2", &control.Hello{Boot: bootB, AES: true, Reach: control.Reach{Port: 7601}})
			p.hour(hour)
			p.a.close()
			p.b.close()
			time.Sleep(time.Hour)
		}
		p.joinAs(a, "198.51.100.1", &control.Hello{Boot: bootA}).close() // what they owe they have lost
		p.joinAs(b, "198.51.100.2", &control.Hello{Boot: bootB}).close()
		p.joinAs(a, "198.51.100.1", &control.Hello{Boot: control.NewBoot()}).close()
		p.joinAs(b, "198.51.100.2", &control.Hello{Boot: control.NewBoot()}).close()
		time.Sleep(time.Minute)
		if after := p.kept(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("kept %v\nbefore %v", after, before)
		}
		if n := len(p.revoked.order); n > 4 {
			t.Errorf("%d revoked ids are remembered, want those of the last hour", n)
		}
	})
}

// hour is some of what peers and operators do in one.
func (p pair) hour(which int) {
	p.t.Helper()
	ctx := p.t.Context()
	fail := func(err error) {
		if err != nil {
			p.t.Error(err)
		}
	}
	closed := acquire(p.a, p.b) // closed by both
	for _, m := range []*module{p.a, p.b} {
		m.send(0, &control.SessionReport{Closed: []control.SessionID{closed.Session}})
	}
	acquire(p.a, p.b) // revoked, without an ack
	_, err := p.RevokeSessions(ctx, SessionFilter{All: true}, time.Second)
	fail(err)
	left := acquire(p.a, p.b) // left behind
	p.b.send(0, report(left, p.a.boot, p.b.boot, true))

	for range 3 { // denied, and equal
		p.b.request(p.a.address())
		p.b.denied()
	}
	p.a.request(p.b.address()) // not accepted
	time.Sleep(control.AcceptTimeout)
	p.a.welcome.Config.AsOf.Revision += 1000 // of a state that never comes
	p.a.request(p.b.address())
	time.Sleep(behindTimeout)
	p.a.welcome.Config.AsOf.Revision -= 1000

	name := fmt.Sprintf("passing-%d", which) // comes and goes
	id := p.add(NewPeer{Name: name})
	p.join(id, "198.51.100.9").request(p.b.address())
	_, err = p.RemovePeer(ctx, name)
	fail(err)
	_, err = p.SuspendPeer(ctx, []string{"a", "b"}[which%2])
	fail(err)
	fail(p.ResumePeer(ctx, []string{"a", "b"}[which%2]))
	p.apply(aToB)
}
