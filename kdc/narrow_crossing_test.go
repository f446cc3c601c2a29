package kdc

import (
	"slices"
	"testing"
	"testing/synctest"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// told is the report of a session between a and b that carries those selectors since asOf.
func (p pair) told(id control.SessionID, carries packet.Selectors, asOf control.AsOf) *control.SessionReport {
	return report(&control.Keys{Session: id, Terms: control.Terms{Selectors: carries, AsOf: asOf}}, p.a.boot, p.b.boot, false)
}

// lives wants the one session, and that neither side is told anything about it.
func (p pair) lives(id control.SessionID) {
	p.t.Helper()
	for _, m := range append(p.a.drained(), p.b.drained()...) {
		switch m.(type) {
		case *control.Narrow, *control.Revoke:
			p.t.Errorf("told %+v", m)
		}
	}
	if list := p.Sessions(SessionFilter{}); len(list) != 1 || list[0].ID != id {
		p.t.Errorf("live sessions %+v", list)
	}
}

// TestNarrowUnknownTwice: of a session that another run of the KDC granted the selectors are not known after the first
// narrowing either, and the sides' word counts after the second.
func TestNarrowUnknownTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const more = `{"schema":"ssmnet.policy/v1","grants":[
			{"id":"m","src":["a"],"dst":["b"],"allow":["icmp","tcp/22","udp/53"]}]}`
		p := newPair(t, more)
		var carries packet.Selectors // no ping, but all else
		for _, s := range p.between() {
			if s.Protocol.HasPorts() {
				s.Ports = packet.AllPorts
				carries = append(carries, s)
			}
		}
		id := control.NewSessionID()
		asOf := p.snapshot.Load().asOf
		for _, m := range []*module{p.a, p.b} {
			m.send(0, p.told(id, carries, control.AsOf{Epoch: asOf.Epoch, Revision: asOf.Revision - 1}))
			m.narrow(carries)
		}
		synctest.Wait()
		carries = carries.Intersect(p.between())
		p.apply(aToB)
		if left := carries.Intersect(p.between()); len(left) == 0 || len(left) == len(carries) {
			t.Fatalf("%v are left of %v", left, carries)
		}
		p.a.narrow(carries)
		p.b.narrow(carries)
		p.lives(id)
	})
}

// TestNarrowedElsewhere: another KDC has narrowed the session, under a state that this one has yet to see, or that it has
// seen as a part of a later one. No side has done wrong.
func TestNarrowedElsewhere(t *testing.T) {
	for name, ahead := range map[string]uint64{"behind": 1, "caught up": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, aToB)
				keys := acquire(p.a, p.b)
				p.apply(`{"schema":"ssmnet.policy/v1","grants":[{"id":"w","src":["a"],"dst":["b"],"allow":["icmp","tcp/*"]}]}`)
				p.a.drained()
				p.b.drained()
				left, asOf := keys.Terms.Selectors[:1], p.snapshot.Load().asOf
				asOf.Revision += ahead
				again := p.joinAs(p.a.id, "198.51.100.7", &control.Hello{Boot: p.a.boot, Sessions: 1})
				again.send(0, p.told(keys.Session, left, asOf))
				if ahead == 0 {
					again.narrow(left)
					p.b.narrow(left)
				}
				p.a = again
				p.lives(keys.Session)
			})
		})
	}
}

// TestNarrowCrossesRenewal: the ack came on the connection that is being replaced, before the report that was made before it.
func TestNarrowCrossesRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		go p.a.narrow(keys.Terms.Selectors)
		go p.b.narrow(keys.Terms.Selectors)
		p.apply(onlyPing)
		again := p.joinAs(p.b.id, "198.51.100.2", &control.Hello{Boot: p.b.boot, Sessions: 1})
		again.send(0, p.told(keys.Session, keys.Terms.Selectors, keys.Terms.AsOf))
		again.narrow(keys.Terms.Selectors)
		p.b = again
		p.lives(keys.Session)
	})
}

// TestNarrowOvertaken: another KDC, ahead of this one, has narrowed further; the side says so, and this one has no say.
func TestNarrowOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.apply(onlyPing)
		for _, m := range []*module{p.a, p.b} {
			n := await[*control.Narrow](m)
			n.AsOf.Revision++
			m.send(0, &control.NarrowAck{
				Session: n.Session, AsOf: n.AsOf, Digest: control.DigestSelectors(n.Selectors[:1]),
			})
		}
		p.lives(keys.Session)
		if n := len(p.live["a"].owed) + len(p.live["b"].owed); n != 0 {
			t.Errorf("%d acks owed", n)
		}
	})
}

// TestNarrowFarSide: what one side alone tells of makes the other hear nothing until it tells of it too.
func TestNarrowFarSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, onlyPing)
		carries := append(slices.Clone(p.between()), packet.Selector{
			Src: p.between()[0].Src, Dst: p.between()[0].Dst, Protocol: packet.TCP, Ports: packet.AllPorts,
		})
		id, asOf := control.NewSessionID(), p.snapshot.Load().asOf
		asOf.Revision--
		p.a.send(0, p.told(id, carries, asOf))
		n := await[*control.Narrow](p.a)
		if got := p.b.drained(); len(got) != 0 || len(p.livePeer("b").owed) != 0 {
			t.Errorf("told %+v", got)
		}
		p.b.send(0, p.told(id, carries, asOf))
		p.b.narrow(carries)
		p.a.send(0, &control.NarrowAck{
			Session: id, AsOf: n.AsOf, Digest: control.DigestSelectors(carries.Intersect(n.Selectors)),
		})
		p.lives(id)
	})
}

// TestManyNarrowAcks: a hub acks at once what it was told at once.
func TestManyNarrowAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		const sessions = askBurst + 10
		for sent := 0; sent < sessions; {
			m := &control.SessionReport{}
			for ; len(m.Opened) < control.MaxReported && sent < sessions; sent++ {
				m.Opened = append(m.Opened, p.told(control.NewSessionID(), p.between(), p.snapshot.Load().asOf).Opened...)
			}
			p.a.send(0, m)
		}
		synctest.Wait()
		carries := p.between()
		go func() {
			for range sessions {
				p.a.narrow(carries)
			}
		}()
		r := p.apply(onlyPing)
		late := slices.DeleteFunc(r.Narrowed, func(r Receipt) bool { return r.State == ReceiptAcked })
		if len(late) != 0 || len(p.live["a"].owed) != 0 {
			t.Errorf("%d receipts are pending, %d acks owed", len(late), len(p.live["a"].owed))
		}
	})
}
