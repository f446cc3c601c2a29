package kdc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// slowStore takes its time over changes.
type slowStore struct {
	*store.Memory
	takes time.Duration
}

func (s *slowStore) Apply(ctx context.Context, conditions []store.Condition, ops []store.Op) (store.Revision, error) {
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
