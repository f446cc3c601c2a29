// Package undo keeps on record what the SSM changes on the host, and puts it back.
//
// What the kernel undoes by itself when the process ends needs no record: what hangs on an interface that goes with it. All
// else is recorded, in a file, written and synced before the change is made, so that after a kill or a power cut the next run
// puts everything back. Where there is nothing to put back there is no file.
//
//	{"schema":"ssmnet.undo/v1","boot":"4cb5…","namespace":"net:[4026531833]"}
//	{"kind":"sysctl","name":"ipv4/conf/all/forwarding","was":"0","now":"1"}
//	{"kind":"forwarding","interface":"eth1","index":2,"name":"ipv4","was":"0","now":"1"}
//	{"kind":"link","interface":"tun9","index":7,"name":"mtu","was":"1500","now":"1420"}
//	{"kind":"address","interface":"tun9","index":7,"name":"10.9.0.1/24 label=tun9","was":"there","now":""}
//	{"kind":"route","interface":"tun9","index":7,"name":"10.8.0.0/16 protocol=3 table=254","was":"there","now":""}
//	{"kind":"nft","name":"inet ssmnet-tun9","was":"","now":"there"}
//
// Changes are undone in reverse order. One whose thing has gone, or has another value than we gave it, because somebody
// else has changed it since, is left as it is. What was changed before the machine started, or in another network
// namespace, is no longer there to be put back. A last line without its end is of a change that was never made.
//
// All acts in the calling thread's network namespace.
package undo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"ssmnet/packet/secret"
	"ssmnet/tunssm/kernel"
)

const (
	schema   = "ssmnet.undo/v1"
	maxLen   = 1 << 20 // bytes of the file
	maxField = 512     // bytes of a name or a value in it
)

// Journal is the record, and the file it is in.
type Journal struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File // nil: nothing is on record
	size    int
	changes []Change // in the file
}

// New is the journal in the file at path. What an earlier run has left there must be put back before anything is
// recorded.
func New(path string, log *slog.Logger) *Journal { return &Journal{path: path, log: log} }

// record writes changes that are about to be made.
func (j *Journal) record(changes ...Change) error {
	var lines bytes.Buffer
	for _, c := range changes {
		if err := c.check(); err != nil {
			return err
		}
		writeLine(&lines, c)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size+lines.Len() > maxLen {
		return fmt.Errorf("undo: %s would be longer than %d bytes", j.path, maxLen)
	}
	if err := j.open(); err != nil {
		return fmt.Errorf("undo: record what is changed: %w", err)
	}
	_, err := j.file.Write(lines.Bytes())
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil { // the disk may be full: half a line would spoil those that come after it
		return fmt.Errorf("undo: record what is changed: %w", errors.Join(err, j.file.Truncate(int64(j.size))))
	}
	j.size += lines.Len()
	j.changes = append(j.changes, changes...)
	return nil
}

// once is record for a change that may be on record: made again, it is undone as one.
func (j *Journal) once(c Change) error {
	if j.has(c) {
		return nil
	}
	return j.record(c)
}

// has says whether a change is on record.
func (j *Journal) has(c Change) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Contains(j.changes, c)
}

// open makes the file with its first line, where it is not open yet.
func (j *Journal) open() error {
	if j.file != nil {
		return nil
	}
	at, err := here()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	writeLine(&line, at)
	_, err = f.Write(line.Bytes())
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), secret.SyncDir(filepath.Dir(j.path))); err != nil {
		f.Close()
		os.Remove(j.path)
		return err
	}
	j.file, j.size = f, line.Len()
	return nil
}

// PutBack undoes what is on record and removes the file. It gives how many changes it undid. Where one fails the rest is
// still undone, and the file stays, so that it can be tried again.
func (j *Journal) PutBack() (undone int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := secret.Sweep(j.path); err != nil {
		return 0, err
	}
	text, err := secret.ReadFile(j.path, maxLen)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("what is to be put back: %w", err)
	}
	at, changes, err := parse(text)
	if err != nil {
		return 0, fmt.Errorf("%s:%w: nothing of it was put back; put back by hand what it names, and remove it", j.path, err)
	}
	now, err := here()
	if err != nil {
		return 0, err
	}
	if len(changes) > 0 && at != now {
		j.log.Warn("discarded a record of changes: of another boot of this machine or another network namespace",
			"file", j.path, "boot", at.Boot, "namespace", at.Namespace, "changes", changes)
		changes = nil
	}
	if undone, err = j.undo(changes); err != nil {
		return undone, fmt.Errorf("%w (%s still has it on record)", err, j.path)
	}
	return undone, j.forget()
}

// Release undoes the changes that match while the rest stays on record.
func (j *Journal) Release(match func(c Change) bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var kept, given []Change
	for _, c := range j.changes {
		if match(c) {
			given = append(given, c)
		} else {
			kept = append(kept, c)
		}
	}
	if len(given) == 0 {
		return nil
	}
	if _, err := j.undo(given); err != nil {
		return fmt.Errorf("%w (%s still has it on record)", err, j.path)
	}
	if len(kept) == 0 {
		return j.forget()
	}
	return j.rewrite(kept)
}

// rewrite makes the file one of these changes alone.
func (j *Journal) rewrite(changes []Change) error {
	at, err := here()
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	writeLine(&lines, at)
	for _, c := range changes {
		writeLine(&lines, c)
	}
	if err := secret.WriteFile(j.path, lines.Bytes()); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	j.file.Close()
	j.file, j.size, j.changes = f, lines.Len(), changes
	return nil
}

// forget removes the file: nothing is on record.
func (j *Journal) forget() error {
	if j.file != nil {
		j.file.Close()
		j.file, j.size, j.changes = nil, 0, nil
	}
	if err := os.Remove(j.path); err != nil {
		return err
	}
	return secret.SyncDir(filepath.Dir(j.path))
}

// undo decides on all before it changes any: putting one thing back can change another, which is then not somebody
// else's doing.
func (j *Journal) undo(changes []Change) (undone int, err error) {
	values := map[string]string{} // as they will be once those decided on are put back
	var ours []Change             // the newest first
	for _, c := range slices.Backward(changes) {
		value, known := values[c.String()]
		if !known {
			is, e := kinds[c.Kind].current(c)
			if errors.Is(e, errGone) {
				continue
			}
			if e != nil {
				err = errors.Join(err, kernel.Wrap(e, "look at %s", c))
				continue
			}
			value = is
		}
		if value != c.Now && value != c.Was {
			j.log.Warn("left as it is: somebody else has changed it", "what", c, "before", c.Was, "now", value)
			continue
		}
		ours, values[c.String()] = append(ours, c), c.Was
	}
	for _, c := range ours {
		done, e := c.undo()
		if e != nil {
			err = errors.Join(err, kernel.Wrap(e, "put back %s to %q", c, c.Was))
		}
		if done {
			undone++
			j.log.Info("put back", "what", c, "now", c.Was)
		}
	}
	return undone, err
}
