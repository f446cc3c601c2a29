package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"ssmnet/packet/secret"
)

// lockWait is how long Open waits for a process that is just ending.
const lockWait = time.Second

// Create makes a new, empty store, 0600. Where the path exists already the error is fs.ErrExist.
func Create(path string) (*Bolt, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("store %s: %w: name another place, or open it", path, fs.ErrExist)
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s, err := create(file)
	if err != nil {
		os.Remove(path)
		file.Close()
		return nil, err
	}
	return s, nil
}

func create(file *os.File) (*Bolt, error) {
	path := file.Name()
	if err := lock(file, lockWait); err != nil {
		return nil, err
	}
	db, err := openDB(file)
	if err != nil {
		return nil, createError(path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{headBucket, entriesBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return writeHead(tx, head{})
	})
	if err == nil {
		err = secret.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		db.Close()
		return nil, createError(path, err)
	}
	s := newBolt(file, db)
	s.history = newHistory(0)
	return s, nil
}

func createError(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("store %s: %w on its disk: make room and try again", path, ErrFull)
	}
	return fmt.Errorf("store %s: %w", path, err)
}

// Open opens a store that Create made. Before it uses the file it reads all of it, so that whatever may have happened
// to it ends in an error here: ErrInUse, ErrForeign, ErrDamaged, secret.ErrLoose (see secret.Open) or fs.ErrNotExist.
func Open(path string) (*Bolt, error) {
	file, err := secret.Open(path, os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("store %w", pathFirst(path, err))
	}
	s, err := open(file)
	if err != nil {
		file.Close() // which also lets go of the lock
		return nil, err
	}
	return s, nil
}

// pathFirst turns "open PATH: reason" into "PATH: reason".
func pathFirst(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", path, pe.Err)
	}
	return err
}

func open(file *os.File) (*Bolt, error) {
	path := file.Name()
	if err := lock(file, lockWait); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	if err := verify(file, info.Size()); err != nil {
		return nil, openError(path, err)
	}
	db, err := openDB(file)
	if err != nil {
		return nil, openError(path, err)
	}
	var h head
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) (err error) {
			h, err = verifyEntries(tx)
			return err
		})
	})
	if err != nil {
		db.Close()
		return nil, openError(path, err)
	}
	s := newBolt(file, db)
	s.history = newHistory(h.revision)
	return s, nil
}

// openError says what to do about a file that is not what it should be.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, ErrForeign):
		return fmt.Errorf("store %s: %w: check the path", path, err)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("store %s: %w: restore a backup", path, err)
	}
	return fmt.Errorf("store %s: %w", path, err)
}

// lock takes the lock that bbolt would take, on the same descriptor, so that nothing else writes while we verify.
func lock(file *os.File, wait time.Duration) error {
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("store %s: lock: %w", file.Name(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("store %s: %w: stop that one first", file.Name(), ErrInUse)
		}
	}
}

// openDB hands bbolt our descriptor, on which its lock is granted at once: what was checked is what is used.
func openDB(file *os.File) (db *bbolt.DB, err error) {
	err = guard(func() (err error) {
		db, err = bbolt.Open(file.Name(), 0o600, &bbolt.Options{
			Timeout:      lockWait,
			FreelistType: bbolt.FreelistMapType,
			NoStatistics: true,
			OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return file, nil },
			// Address space only: a Backup to a slow reader holds up a writer that has to map anew.
			InitialMmapSize: 64 << 20,
		})
		return err
	})
	if db != nil {
		db.AllocSize = 1 << 20 // bbolt's 16 MiB would make every small store look large
	}
	return db, err
}

// verifyEntries reads every entry of a file whose pages are sound.
func verifyEntries(tx *bbolt.Tx) (head, error) {
	entries := tx.Bucket(entriesBucket)
	if tx.Bucket(headBucket) == nil || entries == nil {
		return head{}, fmt.Errorf("%w: a bbolt database with other contents", ErrForeign)
	}
	h, err := readHead(tx)
	if err != nil {
		return head{}, err
	}
	var sum uint64
	c := entries.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r, err := parseRecord(k, v)
		if err != nil {
			return head{}, err
		}
		if r.revision > h.revision {
			return head{}, fmt.Errorf("%w: the entry %q is newer than the store", ErrDamaged, k)
		}
		sum += r.sum
	}
	if sum != h.sum {
		return head{}, fmt.Errorf("%w: entries are missing or out of date", ErrDamaged)
	}
	return h, nil
}
