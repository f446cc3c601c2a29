package kdc

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"ssmnet/kdc/store"
)

// overtaken is a store on which somebody else does something between our reading and our next change.
type overtaken struct {
	*store.Memory
	by func()
}

func (o *overtaken) Apply(ctx context.Context, conditions []store.Condition, ops []store.Op) (store.Revision, error) {
	if by := o.by; by != nil {
		o.by = nil
		by()
	}
	return o.Memory.Apply(ctx, conditions, ops)
}

// twoCenters are two KDCs on one store, of which the second is about to be overtaken.
func twoCenters(t *testing.T) (one, two *center, way *overtaken) {
	one = newCenter(t)
	way = &overtaken{Memory: one.store.Share()}
	return one, startCenterBehind(t, way, way.Memory, one.key), way
}

// TestPeerChangedByTwo: two KDCs change one peer at once, and neither change is lost.
func TestPeerChangedByTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, way := twoCenters(t)
		one.add(NewPeer{Name: "a"})
		synctest.Wait()
		way.by = func() {
			if _, err := one.ChangePeer(t.Context(), "a", PeerChange{AddTags: []string{"one"}}); err != nil {
				t.Error(err)
			}
		}
		got, err := two.ChangePeer(t.Context(), "a", PeerChange{AddTags: []string{"two"}})
		if slices.Sort(got.Tags); err != nil || !slices.Equal(got.Tags, []string{"one", "two"}) {
			t.Errorf("tags %v, %v", got.Tags, err)
		}
	})
}

// TestPolicyAppliedByTwo: of two policies applied at once neither takes the place of the other in the record, and the one
// that was to replace a revision no longer in force is refused.
func TestPolicyAppliedByTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, way := twoCenters(t)
		base := one.apply(allowAll).Revision
		synctest.Wait()
		way.by = func() { one.apply(onlyPing) }
		if _, err := two.ApplyPolicy(t.Context(), []byte(onlyHTTP), &base, ""); !errors.Is(err, ErrConflict) {
			t.Errorf("over another revision: %v", err)
		}
		way.by = func() { one.apply(aToB) }
		last := two.apply(onlyHTTP).Revision
		for revision, want := range map[uint64]string{base + 1: onlyPing, base + 2: aToB, base + 3: onlyHTTP} {
			if got, err := one.Policy(t.Context(), revision); err != nil || got.Text != want {
				t.Errorf("revision %d is %q, %v", revision, got.Text, err)
			}
		}
		if last != base+3 {
			t.Errorf("applied as %d", last)
		}
	})
}
