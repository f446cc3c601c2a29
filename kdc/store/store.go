// Package store keeps the records of a KDC: a revisioned key-value store whose shape fits an embedded file and a
// distributed store alike. What the records mean, and that keys are sealed before they come here, is package kdc's.
//
// # Revisions
//
// A store has one revision, which rises with every change to anything in it, and survives Close. All keys that one
// Apply changes get the same revision, and each key remembers the revision of its last change. Revisions may skip
// numbers, never go back, and are compared with those of the same store only.
//
// # Changing
//
// Apply is the only way to change anything. It takes conditions, each a key and the revision it was read at, and
// operations; either all conditions hold and all operations happen at one revision, durably before Apply returns, or
// nothing happens. Read, decide, apply, and on ErrConflict read again: so several writers never lose each other's work.
//
// # Following
//
// A List gives entries and the revision they are true at; a Watch from that revision gives every change after it, once,
// in order, a whole revision at a time. A store remembers only so much: a watcher that asks for what it has forgotten,
// or that reads too slowly, gets a Resync, after which it must List again.
package store

import (
	"context"
	"fmt"
)

// What one Apply takes at most. These are a little below the defaults of etcd, so that every store takes the same.
const (
	maxKey   = 1024    // bytes of one key
	maxOps   = 128     // operations; likewise conditions
	maxBytes = 1 << 20 // of all keys and values together
)

// Revision counts the changes of a store. Zero is before the first.
type Revision uint64

// Entry is a key with its value as they were when read. The caller owns it.
type Entry struct {
	Key      string
	Value    []byte
	Revision Revision // of its last change
}

// Condition holds when the key's last change was at that revision; with Revision 0, when there is no such key.
type Condition struct {
	Key      string
	Revision Revision
}

// Op changes one key. To delete a key that is not there changes nothing.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Put sets key to value, whether or not it exists.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete removes key.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Batch is what changed at one revision, in no particular order. Several watchers share it: do not modify it.
// A Resync carries no changes: any number of them up to Revision were missed, and the watch goes on after Revision.
type Batch struct {
	Revision Revision
	Changes  []Op
	Resync   bool
}

// Store is a revisioned key-value store, safe for concurrent use. After Close every method returns ErrClosed.
type Store interface {
	// Get returns one entry, or ErrNotFound.
	Get(ctx context.Context, key string) (Entry, error)

	// List returns the entries whose keys begin with prefix, in the order of their keys, and the store's revision, all
	// as of one moment. The empty prefix lists everything.
	List(ctx context.Context, prefix string) ([]Entry, Revision, error)

	// Apply makes all ops at one new revision, which it returns, if all conditions hold; they are durable when it
	// returns. Without anything to change it returns the present revision. No key may be named twice in ops. Otherwise
	// nothing has changed: ErrConflict, ErrInvalid, ErrFull. Any other error leaves open whether the change happened.
	Apply(ctx context.Context, conditions []Condition, ops []Op) (Revision, error)

	// Watch sends the changes after that revision until ctx or the store ends, and then closes the channel.
	Watch(ctx context.Context, after Revision) <-chan Batch

	// Close ends the watches and releases what the store holds.
	Close() error
}

// check refuses what one store would take and another not.
func check(conditions []Condition, ops []Op) error {
	if len(ops) > maxOps || len(conditions) > maxOps {
		return fmt.Errorf("%w: %d operations under %d conditions, at most %d of each",
			ErrInvalid, len(ops), len(conditions), maxOps)
	}
	total := 0
	for _, c := range conditions {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		total += len(c.Key)
	}
	seen := make(map[string]bool, len(ops))
	for _, op := range ops {
		if err := checkKey(op.Key); err != nil {
			return err
		}
		if seen[op.Key] {
			return fmt.Errorf("%w: %q is changed twice", ErrInvalid, op.Key)
		}
		seen[op.Key] = true
		total += len(op.Key) + len(op.Value)
	}
	if total > maxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, total, maxBytes)
	}
	return nil
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > maxKey {
		return fmt.Errorf("%w: a key of %d bytes, must be 1 to %d", ErrInvalid, len(key), maxKey)
	}
	return nil
}

func conflict(c Condition, is Revision) error {
	return fmt.Errorf("%w: %q is at revision %d, not %d", ErrConflict, c.Key, is, c.Revision)
}

func notFound(key string) error { return fmt.Errorf("%w: %q", ErrNotFound, key) }
