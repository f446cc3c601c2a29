package kdc

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
)

// TestReissuesAreBounded: an exchange begins again for as long as its requester waits, and not longer.
func TestReissuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.a.request(p.b.address())
		for start, n := time.Now(), 0; time.Since(start) < control.RequestTimeout; n++ {
			await[*control.KeyOffer](p.b)
			p.add(NewPeer{Name: fmt.Sprint("c", n)})
			time.Sleep(50 * time.Millisecond)
		}
		p.add(NewPeer{Name: "last"})
		if got := p.a.denied(); got != control.Busy {
			t.Errorf("denied for %s", got)
		}
		if p.reissued != 0 {
			t.Errorf("%d exchanges are still counted", p.reissued)
		}
	})
}

// TestChangesDoNotStarveExchanges: a responder far away, and an operator who adds peers in a loop.
func TestChangesDoNotStarveExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		added := 0
		go func() {
			defer close(done)
			for ; ctx.Err() == nil; added++ {
				if _, err := p.AddPeer(t.Context(), NewPeer{Name: fmt.Sprint("c", added)}); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		for range 5 {
			p.a.request(p.b.address())
			granted := false
			for !granted {
				select {
				case e := <-p.b.inbox:
					if o, ok := e.Message.(*control.KeyOffer); ok {
						time.AfterFunc(100*time.Millisecond, func() {
							p.b.conn.Send(0, &control.KeyAccept{
								Session: o.Session, A: "a", B: "b", Enc: make([]byte, control.EncLen), SPI: 1, Order: 1,
							})
						})
					}
				case e := <-p.a.inbox:
					if d, ok := e.Message.(*control.KeyDenial); ok {
						t.Fatalf("denied for %s", d.Reason)
					}
					_, granted = e.Message.(*control.KeyGrant)
				}
			}
		}
		stop()
		<-done
		if added < 5 {
			t.Errorf("%d peers added meanwhile", added)
		}
	})
}

// TestKeysLeaveExchangesAlone: tokens and keys change no decision, so as_of stays and nothing begins again; and a KDC
// that starts later, or shares the store, gives the same state the same age.
func TestKeysLeaveExchangesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.wall.set(0)
		r := p.a.request(p.b.address())
		offer := await[*control.KeyOffer](p.b)
		before := p.snapshot.Load().asOf
		for range 5 {
			e, err := p.NewToken(t.Context(), "b", 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.redeem(tokenOf(t, e)); err != nil {
				t.Fatal(err)
			}
		}
		if now := p.snapshot.Load().asOf; now != before {
			t.Errorf("as_of moved from %s to %s", before, now)
		}
		p.b.acceptOffer(offer)
		p.a.granted(r)
		p.stop()
		if c := startCenter(t, p.store, p.key); c.snapshot.Load().asOf != before {
			t.Errorf("after a restart as_of is %s, was %s", c.snapshot.Load().asOf, before)
		}
	})
}

// TestDecisionsMoveAsOf: whatever narrows a decision does.
func TestDecisionsMoveAsOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		last := p.snapshot.Load().asOf
		for i, change := range []func() error{
			func() error { _, err := p.ChangePeer(t.Context(), "b", PeerChange{AddTags: []string{"x"}}); return err },
			func() error {
				_, err := p.ChangePeer(t.Context(), "b", PeerChange{AddSubnets: subnetsOf("10.0.0.0/8")})
				return err
			},
			func() error { _, err := p.SuspendPeer(t.Context(), "b"); return err },
			func() error { return p.ResumePeer(t.Context(), "b") },
			func() error { _, err := p.RemovePeer(t.Context(), "b"); return err },
			func() error { _, err := p.ApplyPolicy(t.Context(), []byte(allowAll), nil, ""); return err },
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			now := p.snapshot.Load().asOf
			if !last.Before(now) {
				t.Errorf("change %d leaves as_of at %s", i, now)
			}
			last = now
		}
	})
}

// TestOlderStore: in a store that does not tell what is decisive everything is, and as_of never goes back.
func TestOlderStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, aToB)
		p.wall.set(0)
		p.stop()
		revision, err := p.store.Apply(t.Context(), nil, []store.Op{store.Delete(decisiveKey)})
		check(t, err)
		c := startCenter(t, p.store, p.key)
		last := c.snapshot.Load().asOf
		if last.Revision != uint64(revision) {
			t.Errorf("as_of is %s at revision %d", last, revision)
		}
		_, err = c.ChangePeer(t.Context(), "b", PeerChange{AddTags: []string{"x"}})
		check(t, err)
		now := c.snapshot.Load().asOf
		if !last.Before(now) {
			t.Errorf("as_of went from %s to %s", last, now)
		}
		_, err = c.NewToken(t.Context(), "b", 0)
		check(t, err)
		if got := c.snapshot.Load().asOf; got != now {
			t.Errorf("a token moved as_of from %s to %s", now, got)
		}
	})
}
