package kdc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ssmnet/packet/control"
)

// A KDC that does not hear of changes to its store would go on permitting what another KDC on it has narrowed. So it
// watches its contact: it is in contact as of a moment where its snapshot, consequences included, has everything that
// the store had then. What proves that is a read of the store's revision, begun at that moment, which the snapshot has
// reached since; reads alone do not, for the watch may be stalled. Without contact for grace the KDC is detached, which
// its SSMs are told at once: it grants nothing, changes nothing, and contact with it does not count for an SSM's own
// grace. Detached or not, it can still revoke.

const (
	proofInterval = time.Second     // between reads, or a quarter of grace where that is less
	proofTimeout  = 5 * time.Second // of one read
	proofLate     = 5 * time.Second // after which an operator is told that there is none
)

// contact is what the KDC knows of the way to its store. Its lock comes after all others.
type contact struct {
	mu    sync.Mutex
	asOf  time.Time // of the last proof
	fault error     // why the last read failed; nil: it is the watch that is behind
	told  bool      // that the KDC is detached
	lapse *timer    // at the end of grace
}

// grace is how long the KDC goes on without contact: as its configuration says, and never longer than a session would
// live without any KDC.
func (k *KDC) grace() time.Duration {
	return min(k.Config().Grace, k.snapshot.Load().compiled.Session().Grace)
}

// detached says whether the KDC has been without contact for grace.
func (k *KDC) detached() bool {
	k.contact.mu.Lock()
	defer k.contact.mu.Unlock()
	return k.lapsed()
}

func (k *KDC) lapsed() bool { return time.Since(k.contact.asOf) >= k.grace() }

// keepContact proves contact again and again, until ctx ends.
func (k *KDC) keepContact(ctx context.Context) {
	k.inContact(k.began)
	for ctx.Err() == nil {
		began := time.Now()
		if k.prove(ctx) {
			k.inContact(began)
		}
		pause := time.NewTimer(time.Until(began.Add(min(proofInterval, k.grace()/4))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// prove reads the store's revision and waits until the snapshot has it.
func (k *KDC) prove(ctx context.Context) bool {
	reading, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	_, revision, err := k.store.List(reading, metaKey)
	k.contact.mu.Lock()
	k.contact.fault = err
	k.contact.mu.Unlock()
	return err == nil && k.decidesBy(ctx, revision) == nil
}

// inContact notes a proof.
func (k *KDC) inContact(asOf time.Time) {
	c := &k.contact
	c.mu.Lock()
	c.asOf = asOf
	if c.lapse != nil {
		c.lapse.stop()
	}
	c.lapse = k.after(time.Until(asOf.Add(k.grace())), k.tellContact)
	c.mu.Unlock()
	k.tellContact()
}

// tellContact tells the log and the SSMs where the KDC has become detached, or is no longer.
func (k *KDC) tellContact() {
	k.contact.mu.Lock()
	detached, why := k.lapsed(), k.whyCutOff()
	changed := detached != k.contact.told
	k.contact.told = detached
	k.contact.mu.Unlock()
	if !changed {
		return
	}
	if detached {
		k.log.Warn("detached: without contact with the store no key is issued", "error", why)
	} else {
		k.log.Warn("in contact with the store again")
	}
	for _, c := range k.everyone() {
		k.pong(c, 0)
	}
}

// pong tells an SSM whether the KDC is detached, in answer to a Ping or, with call zero, unasked. The lock makes what is
// said last be what is true last.
func (k *KDC) pong(c *connection, call uint64) {
	k.contact.mu.Lock()
	defer k.contact.mu.Unlock()
	c.conn.Send(call, &control.Pong{AsOf: k.snapshot.Load().asOf, Detached: k.lapsed()})
}

// storeState is the contact at a glance.
func (k *KDC) storeState() (text string, detached bool) {
	k.contact.mu.Lock()
	defer k.contact.mu.Unlock()
	detached = k.lapsed()
	if !detached && time.Since(k.contact.asOf) < proofLate {
		return "ok", false
	}
	return k.whyCutOff(), detached
}

// whyCutOff says since when and why there is no contact. The contact's lock is held.
func (k *KDC) whyCutOff() string {
	why := "its changes do not arrive"
	if k.contact.fault != nil {
		why = k.contact.fault.Error()
	}
	return fmt.Sprintf("cut off for %s: %s", time.Since(k.contact.asOf).Truncate(time.Second), why)
}

// mayChange says why an operation that changes the store cannot be done, if so.
func (k *KDC) mayChange() error {
	if err := k.isServing(); err != nil {
		return err
	}
	if state, detached := k.storeState(); detached {
		return fmt.Errorf("%w (%s): use another KDC, or mend the store", ErrDetached, state)
	}
	return nil
}
