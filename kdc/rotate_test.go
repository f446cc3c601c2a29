package kdc

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// rotating is a KDC with an enrolled peer that is connected.
func rotating(t *testing.T, test func(t *testing.T, c *center, a *module)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0) // tokens live by it
		test(t, c, c.join(c.add(NewPeer{Name: "a"}), "198.51.100.1"))
	})
}

// rotate begins a rotation and does not wait for its end.
func (c *center) rotate(name string) Rotation {
	c.t.Helper()
	r, err := c.RotatePeer(c.t.Context(), name, 0)
	if err != nil || len(r.Rotations) != 1 {
		c.t.Fatalf("%+v, %v", r, err)
	}
	return r.Rotations[0]
}

// delivered takes the next RotateKey and gives the identity with that key.
func (m *module) delivered() control.Identity {
	m.t.Helper()
	return m.with(await[*control.RotateKey](m))
}

func (m *module) with(r *control.RotateKey) control.Identity {
	m.t.Helper()
	key, err := keyFrom(r.Key)
	if err != nil {
		m.t.Fatal(err)
	}
	id := m.id
	id.KeyID, id.Key = r.KeyID, key
	return id
}

// rejoin connects the same run under another key.
func (c *center) rejoin(m *module, id control.Identity) *module {
	c.t.Helper()
	return c.joinAs(id, "198.51.100.1", &control.Hello{Boot: m.boot, AES: true, Reach: control.Reach{Port: 7601}})
}

func (c *center) record(name string) peerRecord { return c.snapshot.Load().peers[name].record }

// opens says whether the KDC takes a handshake under an identity's key.
func (c *center) opens(id control.Identity) bool {
	conn, err := c.dial(id, "198.51.100.9")
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// TestRotation: the new key is stored before it is sent, and in use at the first message under it; the old one is dead.
func TestRotation(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		r := c.rotate("a")
		if r.Peer != "a" || r.State != RotationPending || c.record("a").Next.ID != r.KeyID {
			t.Errorf("%+v, stored %+v", r, c.record("a"))
		}
		if p, _ := c.Peer("a"); p.KeyID != a.id.KeyID || p.NextKeyID != r.KeyID {
			t.Errorf("the operator sees %s and %s", p.KeyID, p.NextKeyID)
		}
		id := a.delivered()
		if id.KeyID != r.KeyID {
			t.Errorf("delivered %s, want %s", id.KeyID, r.KeyID)
		}
		if !c.opens(a.id) || !c.opens(id) || c.record("a").Current.ID != a.id.KeyID {
			t.Error("a handshake is no proof: until a message under the new key both open")
		}
		b := c.rejoin(a, id)
		if p, _ := c.Peer("a"); p.KeyID != r.KeyID || p.NextKeyID != (control.KeyID{}) {
			t.Errorf("after it is in use the operator sees %s and %s", p.KeyID, p.NextKeyID)
		}
		if c.opens(a.id) || !c.opens(id) {
			t.Error("the old key opens, or the new one does not")
		}
		if len(b.drained()) > 0 {
			t.Error("there is nothing more to say under the new key")
		}
		c.stop()
		for kind, key := range map[string]control.KeyID{"key.rotate": r.KeyID, "key.current": r.KeyID} {
			if got := c.ledger.events(t, kind); len(got) != 1 || got[0].Peer != "a" || got[0].KeyID != key || got[0].Note != "" {
				t.Errorf("%s in the audit record: %+v", kind, got)
			}
		}
	})
}

// TestRotationWaits for peers that are connected, and for no longer than it is told.
func TestRotationWaits(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		c.add(NewPeer{Name: "away"})
		c.addToken("new")
		go func() { c.rejoin(a, a.delivered()) }()
		all, err := c.RotateAll(t.Context(), time.Hour)
		if err != nil || all.Skipped != 1 || len(all.Rotations) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		if r := all.Rotations[0]; r.Peer != "a" || r.State != Rotated {
			t.Errorf("connected: %+v", r)
		}
		if r := all.Rotations[1]; r.Peer != "away" || r.State != RotationPending {
			t.Errorf("offline: %+v", r)
		}
		synctest.Wait()
		began := time.Now()
		one, err := c.RotatePeer(t.Context(), "a", 3*time.Second)
		if took := time.Since(began); err != nil || one.Rotations[0].State != RotationPending || took != 3*time.Second {
			t.Errorf("%+v, %v after %s", one, err, took)
		}
	})
}

func TestRotationOfManyPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		const peers = 2*rotateAtOnce + 1
		for i := range peers {
			c.add(NewPeer{Name: "p" + string(rune('a'+i%26)) + string(rune('a'+i/26))})
		}
		all, err := c.RotateAll(t.Context(), 0)
		if err != nil || len(all.Rotations) != peers || all.Skipped != 0 {
			t.Fatalf("%d rotations, %v", len(all.Rotations), err)
		}
		for _, r := range all.Rotations {
			if next := c.record(r.Peer).Next; next == nil || next.ID != r.KeyID {
				t.Errorf("%+v is not stored", r)
			}
		}
	})
}

func TestNothingToRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.addToken("a")
		for name, want := range map[string]error{"a": ErrConflict, "nobody": ErrNotFound} {
			if _, err := c.RotatePeer(t.Context(), name, 0); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	})
}

// TestLostRotateKey: a peer that comes under its current key is sent its next key again, once for each connection, by
// whichever run of the KDC.
func TestLostRotateKey(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		r := c.rotate("a")
		lost := a.delivered()
		a.close()
		c.add(NewPeer{Name: "b"}) // a change that is published again
		b := c.rejoin(a, a.id)
		if again := b.delivered(); again.KeyID != r.KeyID || !again.Key.Equal(lost.Key) {
			t.Error("another key")
		}
		c.add(NewPeer{Name: "c"})
		if _, err := c.NewToken(t.Context(), "a", 0); err != nil {
			t.Fatal(err)
		}
		for _, m := range b.drained() {
			if _, is := m.(*control.RotateKey); is {
				t.Error("sent twice on one connection")
			}
		}
		c.stop()
		next := startCenter(t, c.store, c.key)
		next.wall.set(0)
		again := next.rejoin(a, a.id).delivered()
		if again.KeyID != r.KeyID || !again.Key.Equal(lost.Key) {
			t.Error("another key from the next run")
		}
		next.rejoin(a, again)
		if next.record("a").Current.ID != r.KeyID {
			t.Error("not in use")
		}
	})
}

// TestStoredAndNotSent: a KDC that stops after storing the new key has promised nothing that its next run does not keep.
func TestStoredAndNotSent(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		a.close()
		synctest.Wait()
		r := c.rotate("a")
		c.stop()
		next := startCenter(t, c.store, c.key)
		if got := next.rejoin(a, a.id).delivered(); got.KeyID != r.KeyID {
			t.Errorf("delivered %s, want %s", got.KeyID, r.KeyID)
		}
	})
}

// TestRotatedAgain: a second rotation replaces the first that was not used yet, in the audit record too.
func TestRotatedAgain(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		c.rotate("a")
		first := a.delivered()
		c.rotate("a")
		second := a.delivered()
		if c.opens(first) || !c.opens(a.id) {
			t.Error("the replaced key opens, or the current one does not")
		}
		b := c.rejoin(a, second)
		c.rotate("a")
		c.rejoin(b, b.delivered())
		if c.opens(second) {
			t.Error("a key that was rotated away opens")
		}
		c.stop()
		got := c.ledger.events(t, "key.rotate")
		if len(got) != 3 || got[0].Note != "" || got[1].Note != "replaces a rotation" || got[2].Note != "" {
			t.Errorf("in the audit record: %+v", got)
		}
	})
}

// TestRotationSparesTheToken: a token dies with the key that it was redeemed for, not with a rotation that came between.
func TestRotationSparesTheToken(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		c.rotate("a")
		e, err := c.NewToken(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		id := a.delivered() // the token has left the rotation alone
		b := c.rejoin(a, id)
		anew, err := c.redeem(tokenOf(t, e))
		if err != nil {
			t.Fatalf("the token died with a rotation: %v", err)
		}
		c.rejoin(b, anew)
		if _, err := c.redeem(tokenOf(t, e)); err == nil {
			t.Error("the token lives on after the key that it was redeemed for is in use")
		}
	})
}

// TestRotationDuringRedemption: each takes the place of the other, and can be repeated.
func TestRotationDuringRedemption(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		e, err := c.NewToken(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		redeemed, err := c.redeem(tokenOf(t, e))
		if err != nil {
			t.Fatal(err)
		}
		c.rotate("a")
		rotated := a.delivered()
		if c.opens(redeemed) {
			t.Error("two next keys")
		}
		redeemed, err = c.redeem(tokenOf(t, e))
		if err != nil {
			t.Fatalf("the token must be redeemable again: %v", err)
		}
		if c.opens(rotated) || c.record("a").Rotation {
			t.Error("the rotation goes on")
		}
		if p, _ := c.Peer("a"); p.NextKeyID != (control.KeyID{}) {
			t.Error("the operator sees a rotation")
		}
		for _, m := range c.rejoin(a, a.id).drained() {
			if r, is := m.(*control.RotateKey); is {
				t.Errorf("the key of a redemption was sent to who has not redeemed: %v", r)
			}
		}
		c.join(redeemed, "198.51.100.7")
		if _, err := c.redeem(tokenOf(t, e)); err == nil || c.opens(a.id) {
			t.Error("token or old key lives on")
		}
		c.stop()
		var notes []string
		for _, kind := range []string{"key.rotate", "enrol", "enrol.again"} {
			for _, e := range c.ledger.events(t, kind) {
				notes = append(notes, kind+": "+e.Note)
			}
		}
		want := []string{"key.rotate: replaces a redeemed key", "enrol: ", "enrol: replaces a rotation"}
		if !slices.Equal(notes, want) {
			t.Errorf("in the audit record: %q", notes)
		}
	})
}

// TestRotationOfSuspendedPeer: the key waits until the peer is let in again.
func TestRotationOfSuspendedPeer(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		if _, err := c.SuspendPeer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		r := c.rotate("a")
		m := c.knock(a.id, "198.51.100.1", &control.Hello{Boot: a.boot})
		for got := m.next(); got != nil; got = m.next() {
			if refusal, is := got.(*control.Refusal); !is || refusal.Reason != control.Suspended {
				t.Errorf("a suspended peer was sent %T", got)
			}
		}
		for _, got := range a.drained() {
			if _, is := got.(*control.RotateKey); is {
				t.Error("sent to a suspended peer")
			}
		}
		if err := c.ResumePeer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		id := c.rejoin(a, a.id).delivered()
		if id.KeyID != r.KeyID {
			t.Error("another key")
		}
		c.rejoin(a, id)
	})
}

// TestAnswersAcrossRotation: what was asked on the connection of the old key is answered there, with the key id of that
// connection; then it ends. A copy of the old identity that is connected meanwhile is displaced at once.
func TestAnswersAcrossRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		r := p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		p.rotate("a")
		id := p.a.delivered()
		second := p.rejoin(p.a, id)
		began := time.Now()
		if offer.A.KeyID != p.a.id.KeyID {
			t.Error("the offer names another key than that of the requester's connection")
		}
		p.b.acceptOffer(offer)
		keys := p.a.granted(r) // checks that the grant names the key of its connection
		keys.Destroy()
		if next := acquire(second, p.b); next.Self.KeyID != id.KeyID {
			t.Error("a grant on the new connection names the old key")
		}
		<-p.a.ended
		if took := time.Since(began); took > control.RequestTimeout || took < control.RequestTimeout-time.Second {
			t.Errorf("the old connection ended after %s", took)
		}
		p.rotate("a")
		id = second.delivered()
		began = time.Now()
		p.join(id, "198.51.100.1") // another boot
		<-second.ended
		if took := time.Since(began); took > farewell {
			t.Errorf("the displaced run was hung up on after %s", took)
		}
	})
}

// TestDeadKeyEnds: a connection whose key died ends, though no other of its run comes after it.
func TestDeadKeyEnds(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		c.rotate("a")
		id := a.delivered()
		conn, err := c.dial(id, "198.51.100.1")
		if err != nil {
			t.Fatal(err)
		}
		conn.Send(1, &control.Ping{})
		began := time.Now()
		<-a.ended
		if took := time.Since(began); took > control.RequestTimeout+farewell {
			t.Errorf("it ended after %s", took)
		}
		conn.Close()
	})
}
