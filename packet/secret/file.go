package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// looseError is ErrLoose with a line of its own, which begins with the path so that a caller can put a noun before it:
// fmt.Errorf("identity %w", err).
type looseError string

func (e looseError) Error() string      { return string(e) }
func (looseError) Is(target error) bool { return target == ErrLoose }

// Open opens an existing file that holds secrets, with os.O_RDONLY or os.O_RDWR. What it checks, it checks on the open
// descriptor: a regular file, reached through no symbolic link at its last element, of this user or root, and closed
// to everyone else; where the last two fail the error is ErrLoose and says how to mend it.
func Open(path string, flag int) (*os.File, error) {
	// O_NONBLOCK so that a FIFO or a device put in its place is refused and not waited for.
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("%s is a symbolic link: name the file that it points to", path)
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO):
		return nil, fmt.Errorf("%s is not a regular file", path)
	case err != nil:
		return nil, err
	}
	if err := check(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if err := checkOwner(f.Name(), int(owner), os.Geteuid()); err != nil {
		return err
	}
	return checkMode(f.Name(), info.Mode().Perm())
}

func checkOwner(path string, owner, euid int) error {
	if owner == euid || owner == 0 {
		return nil
	}
	return looseError(fmt.Sprintf("%s belongs to user %d, not to %d: run chown %d %s", path, owner, euid, euid, path))
}

// checkMode passes over the owner's own bits: 0400 and 0700 open nothing to others.
func checkMode(path string, mode fs.FileMode) error {
	what := "readable"
	switch {
	case mode&0o077 == 0:
		return nil
	case mode&0o044 == 0 && mode&0o022 != 0:
		what = "writable"
	case mode&0o066 == 0:
		what = "executable"
	}
	return looseError(fmt.Sprintf("%s is %s by others (mode %04o): run chmod 600 %s", path, what, mode, path))
}

// ReadFile reads the whole of a file that holds secrets, at most limit bytes; see Open for what it refuses. Nothing is
// copied on the way, so that the caller, who owns the result, can clear all of it.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is too long: %d bytes, at most %d are expected", path, info.Size(), limit)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		clear(b)
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// unfinished is where WriteFile keeps a new file until it is whole. There is one such name for each path, so that the
// next write takes away what a killed one has left.
func unfinished(path string) string { return path + ".new" }

// WriteFile replaces the file with data, readable by its owner alone, or leaves it as it was: it writes and syncs
// PATH.new, renames that over it, and syncs the directory. An error leaves nothing behind; where only the last sync
// fails the new file is in place, but a power cut may still undo it. A process that is killed may leave PATH.new, which
// the next WriteFile or Sweep removes. Two may not write the same path at once: the caller sees to that.
func WriteFile(path string, data []byte) error {
	if err := Sweep(path); err != nil {
		return writeError(path, err)
	}
	temp := unfinished(path)
	err := writeNew(temp, data)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return writeError(path, err)
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return writeError(path, err)
	}
	return nil
}

// Sweep removes what a WriteFile of path that was killed has left: a copy of the secret. Nobody may be writing path.
func Sweep(path string) error {
	err := unix.Unlink(unfinished(path)) // and no directory, as os.Remove would
	if err == nil || errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return fmt.Errorf("remove %s: %w", unfinished(path), err)
}

func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // a second Close does no harm
	// A umask may have taken more than that.
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeError names the file that was meant in place of the temporary one.
func writeError(path string, err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("write %s: %w: make room and try again", path, err)
	}
	return fmt.Errorf("write %s: %w", path, err)
}
