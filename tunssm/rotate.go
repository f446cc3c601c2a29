package tunssm

// Rotation (package control, "Permanent keys"), on the acquirer's goroutine:
//
//  1. onRotateKey: save the next key beside the current one, only then use it: make every connection anew, before the old
//     one ends. A dialer tries next first and, where a KDC does not know it, current.
//  2. promote: at the first Welcome under next it becomes current; the key before it is destroyed, and forgotten on disk.
//
// Wherever this is cut short, what is saved connects: both keys until a KDC has used next, then that.

import (
	"slices"
	"sync"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// credentials are who this SSM is towards the KDCs, as it is saved.
type credentials struct {
	name string
	kdcs []string // addresses
	keys *keyring
	save func(control.Identity) error
}

// keyring is the permanent keys. The acquirer alone changes it, and reads it without the lock; dialers take copies, for a
// key that is destroyed under a handshake would leave it an all-zero one.
type keyring struct {
	mu            sync.Mutex
	current, next control.PermanentKey // next is zero where no rotation is under way
}

func newKeyring(id control.Identity) *keyring {
	current := control.PermanentKey{ID: id.KeyID, Key: id.Key}
	return &keyring{current: current.Copy(), next: id.Next.Copy()}
}

// trial gives copies of the keys in the order in which a dialer tries them. The caller destroys them.
func (r *keyring) trial(currentFirst bool) []control.PermanentKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := []control.PermanentKey{r.next.Copy(), r.current.Copy()}
	if r.next.IsZero() {
		return keys[1:]
	}
	if currentFirst {
		slices.Reverse(keys)
	}
	return keys
}

// replaceNext makes next the next key, in place of one that was never used.
func (r *keyring) replaceNext(next control.PermanentKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next.Key.Destroy()
	r.next = next
}

// promote makes next the current key, and ends the one before it.
func (r *keyring) promote() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.Key.Destroy()
	r.current, r.next = r.next, control.PermanentKey{}
}

func (r *keyring) destroy() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.Key.Destroy()
	r.next.Key.Destroy()
}

// identity is what there is to save. Its keys are borrowed.
func (a *acquirer) identity() control.Identity {
	return control.Identity{
		Name: a.name, KeyID: a.keys.current.ID, Key: a.keys.current.Key, KDCs: a.kdcs, Next: a.keys.next,
	}
}

// onRotateKey takes a RotateKey. Every KDC sends it, and again on each connection under the current key.
func (a *acquirer) onRotateKey(l *link, conn *control.Conn, m *control.RotateKey) {
	defer clear(m.Key)
	under := a.links.live[conn]
	switch {
	case m.KeyID == a.keys.current.ID: // by way of another KDC it is in use already
		if under != m.KeyID {
			l.reconnect()
		}
		return
	case under != a.keys.current.ID:
		return // of a KDC that is behind: that key has been replaced
	case m.KeyID == a.keys.next.ID: // it was tried and not taken, as while this KDC has no store
		a.timers.after(a.jitter(lastBackoff), func() {
			if l.conn != nil && !a.keys.next.IsZero() && a.links.live[l.conn] != a.keys.next.ID {
				l.reconnect()
			}
		})
		return
	}
	if err := a.saveNext(m); err != nil {
		a.log.Error("cannot keep the next permanent key; going on with the current one", "error", err)
		return
	}
	a.log.Info("rotating the permanent key", "key_id", m.KeyID, "kdc", l.address)
	for _, l := range a.links.list {
		l.reconnect()
	}
}

// saveNext saves the identity with the key, and keeps it if that went well.
func (a *acquirer) saveNext(m *control.RotateKey) error {
	key, err := secret.KeyFrom(m.Key)
	if err != nil {
		return err
	}
	id := a.identity()
	id.Next = control.PermanentKey{ID: m.KeyID, Key: key}
	if err := a.save(id); err != nil {
		key.Destroy()
		return err
	}
	a.keys.replaceNext(id.Next)
	return nil
}

// promote takes note that a KDC has welcomed a connection. Where saving fails, the dead key stays on disk beside the one in
// use, until the next time.
func (a *acquirer) promote(l *link, conn *control.Conn) {
	if a.keys.next.IsZero() || a.links.live[conn] != a.keys.next.ID {
		return
	}
	a.keys.promote()
	a.eraser.Dropped()
	a.log.Info("permanent key in use", "key_id", a.keys.current.ID, "kdc", l.address)
	if err := a.save(a.identity()); err != nil {
		a.log.Warn("cannot forget the permanent key that was rotated away", "error", err)
	}
}
