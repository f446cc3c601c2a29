package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Bolt is a store in one file of this machine, owned by one process at a time. Changes are watched within that process;
// what happened before Open is forgotten (see Batch.Resync), the entries and the revision are not.
type Bolt struct {
	path string
	file *os.File // db's own: it holds the lock
	db   *bbolt.DB

	write   sync.Mutex // orders commits and their places in history
	history *history
	done    chan struct{} // closed by Close
	broken  atomic.Pointer[error]
	close   func() error
}

// newBolt takes over file and db.
func newBolt(file *os.File, db *bbolt.DB) *Bolt {
	s := &Bolt{path: file.Name(), file: file, db: db, done: make(chan struct{})}
	s.close = sync.OnceValue(s.shut)
	return s
}

// usable says why the store cannot be used, if so.
func (s *Bolt) usable(ctx context.Context) error {
	select {
	case <-s.done:
		return ErrClosed
	default:
	}
	if err := s.broken.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// view runs f on a snapshot.
func (s *Bolt) view(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	return s.outcome(guard(func() error { return s.db.View(f) }))
}

// outcome gives bbolt's errors our names, and ends the use of a store that was found damaged: a panic may have left
// locks of bbolt held.
func (s *Bolt) outcome(err error) error {
	switch {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case errors.Is(err, ErrDamaged):
		return s.fail(err)
	}
	return err
}

// fail makes err, on this store's path, the answer to every later call.
func (s *Bolt) fail(err error) error {
	err = fmt.Errorf("store %s: %w: restore a backup", s.path, err)
	s.broken.CompareAndSwap(nil, &err)
	return *s.broken.Load()
}

// guard runs f, which reads a mapped file, and turns into ErrDamaged what that can run into: a page that is no longer
// in the file or cannot be read (SIGBUS), or one that bbolt cannot make sense of (a panic).
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}

// Get implements Store.
func (s *Bolt) Get(ctx context.Context, key string) (Entry, error) {
	var e Entry
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		b := tx.Bucket(entriesBucket).Get([]byte(key))
		if b == nil {
			return notFound(key)
		}
		r, err := parseRecord([]byte(key), b)
		e = Entry{Key: key, Value: slices.Clone(r.value), Revision: r.revision}
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

// List implements Store.
func (s *Bolt) List(ctx context.Context, prefix string) ([]Entry, Revision, error) {
	var list []Entry
	var h head
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		if h, err = readHead(tx); err != nil {
			return err
		}
		c := tx.Bucket(entriesBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			r, err := parseRecord(k, v)
			if err != nil {
				return err
			}
			list = append(list, Entry{Key: string(k), Value: slices.Clone(r.value), Revision: r.revision})
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return list, h.revision, nil
}

// Apply implements Store.
func (s *Bolt) Apply(ctx context.Context, conditions []Condition, ops []Op) (Revision, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	if err := check(conditions, ops); err != nil {
		return 0, err
	}
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	var at Revision
	var changes []Op
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) (err error) {
			at, changes, err = apply(tx, conditions, ops)
			if err == nil && len(changes) == 0 {
				return errUnchanged
			}
			return err
		})
	})
	switch {
	case err == nil:
		s.history.add(at, changes)
		return at, nil
	case errors.Is(err, errUnchanged):
		return at, nil
	case errors.Is(err, ErrConflict), errors.Is(err, ErrDamaged), errors.Is(err, berrors.ErrDatabaseNotOpen):
		return 0, s.outcome(err)
	}
	return 0, s.notCommitted(err, at)
}

// errUnchanged rolls a transaction back that has nothing to commit.
var errUnchanged = errors.New("store: unchanged")

// notCommitted judges a failed commit. What failed before bbolt's last step left everything as it was. In the last step
// the file may have come to show a change that is not on the disk: then nothing more can be promised.
func (s *Bolt) notCommitted(err error, at Revision) error {
	var h head
	read := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) (err error) {
			h, err = readHead(tx)
			return err
		})
	})
	switch {
	case read != nil || h.revision >= at:
		return s.fail(fmt.Errorf("%w: the disk failed a write: %w", ErrDamaged, err))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("store %s: %w on its disk: make room and try again", s.path, ErrFull)
	}
	return fmt.Errorf("store %s: write: %w", s.path, err)
}

// apply makes the changes inside a transaction and returns those that changed something.
func apply(tx *bbolt.Tx, conditions []Condition, ops []Op) (Revision, []Op, error) {
	h, err := readHead(tx)
	if err != nil {
		return 0, nil, err
	}
	entries := tx.Bucket(entriesBucket)
	for _, c := range conditions {
		old, err := getRecord(entries, c.Key)
		if err != nil {
			return 0, nil, err
		}
		if old.revision != c.Revision {
			return 0, nil, conflict(c, old.revision)
		}
	}
	next := h.revision + 1
	var changes []Op
	for _, op := range ops {
		old, err := getRecord(entries, op.Key)
		if err != nil {
			return 0, nil, err
		}
		key := []byte(op.Key)
		switch {
		case op.Delete && old.revision == 0:
			continue
		case op.Delete:
			err = entries.Delete(key)
		default:
			r := newRecord(key, next, op.Value)
			h.sum += r.sum
			err = entries.Put(key, r.marshal())
		}
		if err != nil {
			return 0, nil, err
		}
		h.sum -= old.sum
		changes = append(changes, op)
	}
	if len(changes) == 0 {
		return h.revision, nil, nil
	}
	h.revision = next
	return next, changes, writeHead(tx, h)
}

// Watch implements Store.
func (s *Bolt) Watch(ctx context.Context, after Revision) <-chan Batch {
	// A revision just committed may have been listed before it is in the history; wait for it, lest it seem foreign.
	s.write.Lock()
	defer s.write.Unlock()
	return s.history.watch(ctx, s.done, after)
}

// Backup writes the store as it is at one moment: a file that Open takes. Writers may go on meanwhile.
func (s *Bolt) Backup(ctx context.Context, w io.Writer) error {
	return s.view(ctx, func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// Close implements Store. It waits for calls under way.
func (s *Bolt) Close() error { return s.close() }

func (s *Bolt) shut() error {
	close(s.done)
	if s.broken.Load() == nil {
		return s.db.Close()
	}
	// bbolt's locks may be held for ever. The mapping outlives the descriptor and would keep the lock with it.
	return errors.Join(unix.Flock(int(s.file.Fd()), unix.LOCK_UN), s.file.Close())
}
