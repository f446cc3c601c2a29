package kdc

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
)

// farStore is a handle of a store behind a network: reads can fail or hang, and the watch can stall.
type farStore struct {
	*store.Memory
	mu    sync.Mutex
	cut   error         // what reads fail with
	hang  bool          // reads last until their context ends
	stall chan struct{} // closed when the watch goes on; nil: it does not stall
}

var errNoRoute = errors.New("no route to host")

// is sets what is wrong from now on.
func (f *farStore) is(cut error, hang, stalled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut, f.hang = cut, hang
	if f.stall != nil {
		close(f.stall)
		f.stall = nil
	}
	if stalled {
		f.stall = make(chan struct{})
	}
}

func (f *farStore) List(ctx context.Context, prefix string) ([]store.Entry, store.Revision, error) {
	f.mu.Lock()
	cut, hang := f.cut, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	if cut != nil {
		return nil, 0, cut
	}
	return f.Memory.List(ctx, prefix)
}

func (f *farStore) Watch(ctx context.Context, after store.Revision) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range f.Memory.Watch(ctx, after) {
			f.mu.Lock()
			stall := f.stall
			f.mu.Unlock()
			if stall != nil {
				select {
				case <-stall:
				case <-ctx.Done():
				}
			}
			select {
			case out <- b:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// remote is a pair at a KDC whose store is far, and another KDC right at that store.
type remote struct {
	pair
	far  *farStore
	near *center
	c    control.Identity // of a peer that is not connected
}

func newRemote(t *testing.T) remote {
	t.Helper()
	near := newCenter(t)
	far := &farStore{Memory: near.store.Share()}
	c := startCenterBehind(t, far, near.store, near.key)
	idA, idB := near.add(NewPeer{Name: "a"}), near.add(NewPeer{Name: "b"})
	idC := near.add(NewPeer{Name: "c"})
	near.apply(aToB)
	synctest.Wait()
	r := remote{pair{c, c.join(idA, "198.51.100.1"), c.join(idB, "198.51.100.2")}, far, near, idC}
	go keepAlive(r.a)
	go keepAlive(r.b)
	return r
}

// told takes messages until a Pong that nobody has asked for.
func (m *module) told() bool {
	m.t.Helper()
	for {
		select {
		case e := <-m.inbox:
			if p, ok := e.Message.(*control.Pong); ok && e.ID == 0 {
				return p.Detached
			}
		case <-m.ended:
			m.t.Fatalf("%s: the connection ended", m.id.Name)
		}
	}
}

// TestDetached: a KDC that is cut off from its store, however that comes about, issues for grace and no longer, says so
// everywhere, and is back with the first proof that it knows what the store holds.
func TestDetached(t *testing.T) {
	for name, cut := range map[string]func(r remote){
		"reads fail":       func(r remote) { r.far.is(errNoRoute, false, true) },
		"reads hang":       func(r remote) { r.far.is(nil, true, true) },
		"the watch stalls": func(r remote) { r.far.is(nil, false, true); r.near.add(NewPeer{Name: "d"}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRemote(t)
				time.Sleep(time.Hour) // while nothing is wrong
				if st := r.Status(); st.Store != "ok" || st.Detached {
					t.Errorf("store %q, detached %v, with nothing wrong", st.Store, st.Detached)
				}
				cut(r)
				began := time.Now()
				time.Sleep(r.Config().Grace - 2*time.Second)
				acquire(r.a, r.b)
				if st := r.Status(); !strings.HasPrefix(st.Store, "cut off for 5") || st.Detached {
					t.Errorf("store %q, detached %v, within grace", st.Store, st.Detached)
				}
				if !r.a.told() || time.Since(began) > r.Config().Grace {
					t.Errorf("told of another state than detached, or only after %s", time.Since(began))
				}
				r.isDetached()
				time.Sleep(time.Hour)
				r.isDetached()

				r.far.is(nil, false, false)
				if r.a.told() || !r.b.told() || r.b.told() {
					t.Error("the SSMs were not told of the recovery")
				}
				if st := r.Status(); st.Store != "ok" || st.Detached {
					t.Errorf("store %q, detached %v, when all is well again", st.Store, st.Detached)
				}
				acquire(r.a, r.b)
				r.add(NewPeer{Name: "e"})
			})
		})
	}
}

// isDetached checks all that a detached KDC says and does.
func (r remote) isDetached() {
	r.t.Helper()
	r.a.request(r.b.address())
	if got := r.a.denied(); got != control.Detached {
		r.t.Errorf("denied as %s, want detached", got)
	}
	r.a.ask(control.Want{Peer: "unheard-of"})
	if got := r.a.denied(); got != control.Detached {
		r.t.Errorf("a peer that it may have missed: denied as %s, want detached", got)
	}
	if _, err := r.AddPeer(r.t.Context(), NewPeer{Name: "f"}); !errors.Is(err, ErrDetached) {
		r.t.Errorf("AddPeer: %v", err)
	}
	if _, err := r.ApplyPolicy(r.t.Context(), []byte(allowAll), nil, ""); !errors.Is(err, ErrDetached) {
		r.t.Errorf("ApplyPolicy: %v", err)
	}
	if st := r.Status(); !st.Detached || !strings.HasPrefix(st.Store, "cut off for ") {
		r.t.Errorf("store %q, detached %v", st.Store, st.Detached)
	}
	other := r.join(r.c, "198.51.100.3")
	defer other.close()
	if !other.welcome.Detached {
		r.t.Error("Welcome does not say that the KDC is detached")
	}
	other.send(77, &control.Ping{})
	if p := await[*control.Pong](other); !p.Detached {
		r.t.Error("Pong does not say that the KDC is detached")
	}
}

// TestDetachedInFlight: what is issued before the KDC is detached and accepted after comes to nothing.
func TestDetachedInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRemote(t)
		r.far.is(errNoRoute, false, false)
		time.Sleep(r.Config().Grace - time.Second - 100*time.Millisecond) // its last proof may be as old as proofInterval
		for !r.detached() {
			r.a.request(r.b.address())
			offer := await[*control.KeyOffer](r.b)
			time.Sleep(200 * time.Millisecond)
			r.b.acceptOffer(offer)
			if r.detached() {
				break
			}
			await[*control.KeyGrant](r.a)
		}
		if got := r.a.denied(); got != control.Detached {
			t.Errorf("denied as %s, want detached", got)
		}
		if w := await[*control.Revoke](r.b); len(w.Sessions) != 1 || w.Reason != control.Detached {
			t.Errorf("the responder is told %+v", w)
		}
	})
}

// TestWakingKDCWidensNothing: what another KDC took away while this one did not hear of it is not permitted after grace, and
// this one takes it away, too, when it does hear of it.
func TestWakingKDCWidensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRemote(t)
		keys := acquire(r.a, r.b)
		r.far.is(nil, false, true)
		r.near.apply(strings.Replace(aToB, `"icmp",`, "", 1))
		time.Sleep(2 * r.Config().Grace)
		r.a.request(r.b.address())
		if got := r.a.denied(); got != control.Detached {
			t.Errorf("denied as %s, want detached", got)
		}
		r.far.is(nil, false, false)
		if got := await[*control.Narrow](r.a); got.Session != keys.Session {
			t.Errorf("told %+v", got)
		}
		time.Sleep(proofInterval)
		r.a.request(r.b.address())
		if got := r.a.denied(); got != control.Denied {
			t.Errorf("denied as %s by a KDC that has come back, want by policy", got)
		}
	})
}

// TestGraceOfPolicy: a KDC goes on without its store no longer than a session without any KDC.
func TestGraceOfPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRemote(t)
		r.near.apply(strings.Replace(aToB, `"grants"`, `"session":{"grace":"3s"},"grants"`, 1))
		time.Sleep(time.Minute)
		if r.detached() {
			t.Error("detached while nothing is wrong")
		}
		r.far.is(errNoRoute, false, false)
		time.Sleep(3 * time.Second)
		if !r.detached() {
			t.Error("not detached after the grace of the policy")
		}
	})
}
