package kdc

import (
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// wide is an entry of a session that a asked b for, with selectors that policy does not have.
func (p pair) wide(id control.SessionID) control.SessionEntry {
	return control.SessionEntry{
		ID: id, Requester: "a", Responder: "b", BootA: p.a.boot, BootB: p.b.boot,
		Digest: control.Digest{1}, AsOf: p.snapshot.Load().asOf,
	}
}

// TestNarrowTwiceInOneReport: a session that stands twice in a report is narrowed once.
func TestNarrowTwiceInOneReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.b.close()
		synctest.Wait()
		e := p.wide(control.NewSessionID())
		p.a.send(0, &control.SessionReport{Opened: []control.SessionEntry{e, e}})
		n := await[*control.Narrow](p.a)
		p.a.send(0, &control.NarrowAck{Session: n.Session, AsOf: n.AsOf, Digest: e.Digest})
		if got := p.a.drained(); len(got) != 0 || len(p.live["a"].owed) != 0 {
			t.Errorf("told %+v, %d acks owed", got, len(p.live["a"].owed))
		}
	})
}

// TestNarrowAckOfAnotherSession: an id that has come to name the session of two others is none of the acker's business.
func TestNarrowAckOfAnotherSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, allowAll)
		c := p.join(p.add(NewPeer{Name: "c"}), "198.51.100.3")
		d := p.join(p.add(NewPeer{Name: "d"}), "198.51.100.4")
		e := p.wide(control.NewSessionID())
		p.a.send(0, &control.SessionReport{Opened: []control.SessionEntry{e}})
		p.b.send(0, &control.SessionReport{Opened: []control.SessionEntry{e}})
		n := await[*control.Narrow](p.a)
		await[*control.Narrow](p.b)
		p.b.send(0, &control.NarrowAck{Session: e.ID, AsOf: n.AsOf})
		time.Sleep(time.Second)
		p.a.close()
		a := p.joinAs(p.a.id, "198.51.100.1", &control.Hello{Boot: p.a.boot, Sessions: 1})
		a.send(0, &control.SessionReport{Last: true})
		synctest.Wait()
		e.Requester, e.Responder, e.BootA, e.BootB = "c", "d", c.boot, d.boot
		c.send(0, &control.SessionReport{Opened: []control.SessionEntry{e}})
		synctest.Wait()
		a.send(0, &control.NarrowAck{Session: n.Session, AsOf: n.AsOf})
		synctest.Wait()
		if list := p.Sessions(SessionFilter{ID: e.ID}); len(list) != 1 || list[0].Requester != "c" {
			t.Errorf("live sessions %+v", list)
		}
	})
}
