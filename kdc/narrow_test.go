package kdc

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

const (
	onlyPing = `{"schema":"ssmnet.policy/v1","grants":[{"id":"n","src":["a"],"dst":["b"],"allow":["icmp"]}]}`
	onlyHTTP = `{"schema":"ssmnet.policy/v1","grants":[{"id":"n","src":["a"],"dst":["b"],"allow":["tcp/80"]}]}`
)

// narrow does as an SSM does whose session had those selectors.
func (m *module) narrow(had packet.Selectors) *control.Narrow {
	m.t.Helper()
	n := await[*control.Narrow](m)
	m.send(0, &control.NarrowAck{
		Session: n.Session, AsOf: n.AsOf, Digest: control.DigestSelectors(had.Intersect(n.Selectors)),
	})
	return n
}

// between are the selectors that policy gives a and b now.
func (p pair) between() packet.Selectors {
	return p.snapshot.Load().compiled.Pair("a", "b", time.Now()).Selectors
}

// TestPolicyChangeNarrows: both sides are told what the pair has now, and their acks are on record.
func TestPolicyChangeNarrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		go p.a.narrow(keys.Terms.Selectors)
		told := make(chan *control.Narrow, 1)
		go func() { told <- p.b.narrow(keys.Terms.Selectors) }()
		r := p.apply(onlyPing)
		if got := states(r.Narrowed); len(r.Revoked) != 0 || got["a"] != ReceiptAcked || got["b"] != ReceiptAcked {
			t.Errorf("revoked %+v, narrowed %+v", r.Revoked, r.Narrowed)
		}
		n := <-told
		if n.Session != keys.Session || n.AsOf != p.snapshot.Load().asOf || !slices.Equal(n.Selectors, p.between()) {
			t.Errorf("told %+v", n)
		}
		list := p.Sessions(SessionFilter{})
		if len(list) != 1 || list[0].ID != keys.Session || list[0].AsOf != n.AsOf ||
			len(list[0].Selectors) != len(n.Selectors) {
			t.Errorf("live sessions %+v", list)
		}
		p.apply(aToB) // wider again: the session stays narrow, and is left alone
		p.apply(onlyPing)
		for _, m := range append(p.a.drained(), p.b.drained()...) {
			if _, update := m.(*control.Update); !update {
				t.Errorf("told %+v", m)
			}
		}
		p.stop()
		for event, want := range map[string]int{"narrow": 1, "narrow.acked": 2, "revoke": 0} {
			if got := len(p.ledger.events(t, event)); got != want {
				t.Errorf("%d of %s on record, want %d", got, event, want)
			}
		}
	})
}

// TestNothingLeft: a session that would carry nothing is revoked.
func TestNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.a.acks()
		p.b.acks()
		r := p.apply(onlyHTTP)
		if len(r.Revoked) != 2 || len(r.Narrowed) != 0 || r.Revoked[0].Session != keys.Session {
			t.Errorf("revoked %+v, narrowed %+v", r.Revoked, r.Narrowed)
		}
	})
}

// TestNarrowOwed: a side that was away is told when it comes back, and what it reports until then is no fault.
func TestNarrowOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.b.close()
		synctest.Wait()
		go p.a.narrow(keys.Terms.Selectors)
		r := p.apply(onlyPing)
		if got := states(r.Narrowed); got["a"] != ReceiptAcked || got["b"] != ReceiptPending {
			t.Errorf("receipts %+v", r.Narrowed)
		}
		b := p.joinAs(p.b.id, "198.51.100.2", &control.Hello{Boot: p.b.boot, AES: true, Sessions: 1})
		b.send(0, report(keys, p.a.boot, b.boot, true))
		n := b.narrow(keys.Terms.Selectors)
		if n.Session != keys.Session {
			t.Errorf("told %+v", n)
		}
		synctest.Wait()
		if list := p.Sessions(SessionFilter{}); len(list) != 1 || len(p.live["b"].owed) != 0 {
			t.Errorf("live sessions %+v, %d acks owed", list, len(p.live["b"].owed))
		}
		entry := report(keys, p.a.boot, b.boot, false)
		entry.Opened[0].Digest, entry.Opened[0].AsOf = control.DigestSelectors(p.between()), n.AsOf
		b.send(0, entry)
		if got := b.drained(); len(got) != 0 {
			t.Errorf("what it has been told to carry is answered with %+v", got)
		}
	})
}

// TestNarrowedTwice: the second takes the place of the first, whose ack says nothing any more.
func TestNarrowedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, `{"schema":"ssmnet.policy/v1","grants":[{"id":"w","src":["a"],"dst":["b"],"allow":["*"]}]}`)
		keys := acquire(p.a, p.b)
		p.apply(aToB)
		p.apply(onlyPing)
		first, second := await[*control.Narrow](p.a), await[*control.Narrow](p.a)
		if !first.AsOf.Before(second.AsOf) {
			t.Fatalf("told as of %s, then %s", first.AsOf, second.AsOf)
		}
		left := keys.Terms.Selectors.Intersect(first.Selectors)
		p.a.send(0, &control.NarrowAck{Session: keys.Session, AsOf: first.AsOf, Digest: control.DigestSelectors(left)})
		synctest.Wait()
		if len(p.live["a"].owed) != 1 {
			t.Fatal("the ack of the first was taken for that of the second")
		}
		left = left.Intersect(second.Selectors)
		p.a.send(0, &control.NarrowAck{Session: keys.Session, AsOf: second.AsOf, Digest: control.DigestSelectors(left)})
		synctest.Wait()
		if n := len(p.live["a"].owed); n != 0 || len(p.Sessions(SessionFilter{})) != 1 {
			t.Errorf("%d acks owed", n)
		}
	})
}

// TestNarrowDiverged: where the two sides come to carry different flows the session is revoked.
func TestNarrowDiverged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.apply(onlyPing)
		p.a.narrow(keys.Terms.Selectors)
		p.b.narrow(nil)
		for _, m := range []*module{p.a, p.b} {
			if got := await[*control.Revoke](m); got.Sessions[0] != keys.Session || got.Reason != control.Changed {
				t.Errorf("%s is told %+v", m.id.Name, got)
			}
		}
		if list := p.Sessions(SessionFilter{}); len(list) != 0 {
			t.Errorf("live sessions %+v", list)
		}
	})
}

// TestNarrowGone: a side that has no such session holds it no more.
func TestNarrowGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		keys := acquire(p.a, p.b)
		p.apply(onlyPing)
		p.b.narrow(keys.Terms.Selectors)
		n := await[*control.Narrow](p.a)
		p.a.send(0, &control.NarrowAck{Session: n.Session, AsOf: n.AsOf})
		synctest.Wait()
		if s := p.sessions[keys.Session]; s == nil || s.of("a").hold.has() || !s.of("b").hold.has() {
			t.Errorf("held by %+v", s)
		}
	})
}

// TestNarrowReported: a KDC that did not grant a session, and does not know its selectors, narrows it to what policy
// permits; what the sides then tell is held against each other.
func TestNarrowReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, onlyPing)
		more := p.between()[0]
		more.Protocol, more.Ports = packet.TCP, packet.AllPorts
		had := append(slices.Clone(p.between()), more)
		keys := &control.Keys{
			Session: control.NewSessionID(), Terms: control.Terms{Selectors: had, AsOf: p.snapshot.Load().asOf},
		}
		for _, m := range []*module{p.a, p.b} {
			m.send(0, report(keys, p.a.boot, p.b.boot, true))
			if n := m.narrow(had); n.Session != keys.Session || !slices.Equal(n.Selectors, p.between()) {
				t.Errorf("%s is told %+v", m.id.Name, n)
			}
		}
		time.Sleep(2 * matchGrace)
		if list := p.Sessions(SessionFilter{}); len(list) != 1 || list[0].ID != keys.Session {
			t.Errorf("live sessions %+v", list)
		}
		for _, m := range append(p.a.drained(), p.b.drained()...) {
			t.Errorf("told %+v", m)
		}
		c := p.add(NewPeer{Name: "c"}) // nobody's business but theirs
		stranger := p.join(c, "198.51.100.3")
		stranger.send(0, &control.NarrowAck{Session: keys.Session, AsOf: p.snapshot.Load().asOf})
		synctest.Wait()
		if list := p.Sessions(SessionFilter{}); len(list) != 1 {
			t.Error("a stranger's ack had an effect")
		}
	})
}
