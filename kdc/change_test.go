package kdc

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// slowStore takes its time over changes, or does not take them.
type slowStore struct {
	*store.Memory
	takes time.Duration
	fails error
}

func (s *slowStore) Apply(ctx context.Context, conditions []store.Condition, ops []store.Op) (store.Revision, error) {
	if s.fails != nil {
		return 0, s.fails
	}
	select {
	case <-time.After(s.takes):
		return s.Memory.Apply(ctx, conditions, ops)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// newSlowPair is newPair on a store that takes a second for a change, from now on.
func newSlowPair(t *testing.T, policy string) pair {
	t.Helper()
	memory, key := store.NewMemory(), secret.NewKey()
	check(t, InitStore(t.Context(), memory, key))
	slow := &slowStore{Memory: memory}
	c := startCenterBehind(t, slow, memory, key)
	idA, idB := c.add(NewPeer{Name: "a"}), c.add(NewPeer{Name: "b"})
	c.apply(policy)
	slow.takes = time.Second
	return pair{c, c.join(idA, "198.51.100.1"), c.join(idB, "198.51.100.2")}
}

// TestReceiptsAreOfTheChange: what another operator revokes while a policy is applied is no doing of the policy's.
func TestReceiptsAreOfTheChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPair(t, aToB)
		first, second := acquire(p.a, p.b), acquire(p.a, p.b)
		p.a.acks()
		p.b.acks()
		time.AfterFunc(time.Second/2, func() {
			if _, err := p.RevokeSessions(t.Context(), SessionFilter{ID: first.Session}, 0); err != nil {
				t.Error(err)
			}
		})
		r := p.apply(onlyHTTP)
		if len(r.Revoked) != 2 || r.Revoked[0].Session != second.Session || r.Revoked[1].Session != second.Session {
			t.Errorf("applied with the receipts %+v, want both sides' of %s", r.Revoked, second.Session)
		}
	})
}

// TestChangeGivenUp: an operator who does not wait any longer, for their own change or another's, is told that; and so is one
// whose KDC stops.
func TestChangeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPair(t, aToB)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := p.ApplyPolicy(ctx, []byte(allowAll), nil, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a change that takes too long: %v", err)
		}
		first := make(chan error, 1)
		go func() { _, err := p.SuspendPeer(t.Context(), "a"); first <- err }()
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if err := p.ResumePeer(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("behind a change that takes too long: %v", err)
		}
		second := make(chan error, 1)
		go func() { second <- p.ResumePeer(t.Context(), "b") }()
		synctest.Wait()
		p.stop()
		if err := <-second; !errors.Is(err, ErrNotServing) {
			t.Errorf("behind another change when the KDC stops: %v", err)
		}
		if err := <-first; !errors.Is(err, ErrNotServing) {
			t.Errorf("in the middle of a change when the KDC stops: %v", err)
		}
	})
}

// TestDecidedAgainBeforeGrant: where a grant has ended by the wall clock between offer and accept, and another still
// permits, the exchange begins again under what is left.
func TestDecidedAgainBeforeGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		p := newPair(t, `{"schema":"ssmnet.policy/v1","grants":[
			{"id":"x","src":["a"],"dst":["b"],"allow":["icmp"]},
			{"id":"y","src":["a"],"dst":["b"],"allow":["tcp/22"],"until":"`+until+`"}]}`)
		p.wall.set(0)
		r := p.a.request(p.b.address())
		wide := await[*control.KeyOffer](p.b)
		p.wall.set(2 * time.Hour)
		p.b.acceptOffer(wide)
		narrow := await[*control.KeyOffer](p.b)
		p.b.acceptOffer(narrow)
		if keys := p.a.granted(r); keys.Session != narrow.Session || len(narrow.Terms.Selectors) >= len(wide.Terms.Selectors) {
			t.Errorf("granted %s with %v, offered %v and then %v", keys.Session, keys.Terms.Selectors,
				wide.Terms.Selectors, narrow.Terms.Selectors)
		}
	})
}

// TestStoreRefuses: where the store cannot take a change its error is the operator's, or the SSM is told that the KDC cannot
// serve it now; and nothing has changed.
func TestStoreRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowPair(t, aToB)
		p.wall.set(0)
		slow := p.KDC.store.(*slowStore)
		slow.takes = 0
		token := p.addToken("c")
		slow.fails = errDiskFull
		for name, err := range map[string]error{
			"policy":  second(p.ApplyPolicy(t.Context(), []byte(allowAll), nil, "")),
			"peer":    second(p.AddPeer(t.Context(), NewPeer{Name: "d"})),
			"token":   second(p.NewToken(t.Context(), "c", 0)),
			"tags":    second(p.ChangePeer(t.Context(), "a", PeerChange{AddTags: []string{"t"}})),
			"suspend": second(p.SuspendPeer(t.Context(), "a")),
			"remove":  second(p.RemovePeer(t.Context(), "a")),
			"rotate":  second(p.RotatePeer(t.Context(), "a", 0)),
			"all":     second(p.RotateAll(t.Context(), 0)),
		} {
			if !errors.Is(err, errDiskFull) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := p.redeem(token); err == nil || p.stateOf("c") != StateToken {
			t.Errorf("a token is redeemed without a store: %v, %s", err, p.stateOf("c"))
		}
		slow.fails = nil
		id, err := p.redeem(token)
		check(t, err)
		slow.fails = errDiskFull
		first := p.knock(id, "198.51.100.3", &control.Hello{Boot: control.NewBoot()})
		if r, ok := first.next().(*control.Refusal); !ok || r.Reason != control.Unavailable {
			t.Error("a key is put in use that the store does not have")
		}
		slow.fails = nil
		p.join(id, "198.51.100.3")
	})
}

func second[T any](_ T, err error) error { return err }

// TestNotServing: before Serve and after it nothing can be changed or followed, and a KDC serves once.
func TestNotServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		if err := c.Serve(t.Context()); !errors.Is(err, errServed) {
			t.Errorf("serving twice: %v", err)
		}
		c.stop()
		after, err := New(Options{Store: c.store, StoreKey: c.key, Config: c.Config(), Audit: c.ledger})
		check(t, err)
		for _, k := range []*KDC{c.KDC, after} {
			for name, err := range map[string]error{
				"apply":  second(k.ApplyPolicy(t.Context(), []byte(allowAll), nil, "")),
				"revoke": second(k.RevokeSessions(t.Context(), SessionFilter{All: true}, 0)),
				"watch":  second(k.WatchSessions(t.Context(), SessionFilter{})),
			} {
				if !errors.Is(err, ErrNotServing) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if err := InitStore(t.Context(), c.store, c.key); !errors.Is(err, ErrExists) {
			t.Errorf("a store that is a KDC's is made one again: %v", err)
		}
		check(t, after.Close()) // it has nothing of its own to release
	})
}

// TestListenerEnds: a listener that is closed behind the KDC's back ends it, with the reason.
func TestListenerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wire.Close()
		if err := <-c.served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
		c.served <- nil
	})
}
