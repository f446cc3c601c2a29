package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"ssmnet/packet/secret"
)

const (
	undoSchema = "ssmnet.undo/v1"
	maxUndo    = 1 << 20 // bytes of the file
	maxField   = 512     // bytes of a name or a value in it
)

// Journal is the record of what the SSM has changed on the host and the kernel does not undo by itself when the process
// ends: it is written and synced before the change is made, so that after a kill or a power cut the next run puts
// everything back. Where there is nothing to put back there is no file.
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
type Journal struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File // nil: nothing is on record
	size    int
	changes []change // in the file
}

// change is one line: something that had the value Was, and was given the value Now. Where there was or is nothing, the
// value is empty.
type change struct {
	Kind      string `json:"kind"`
	Interface string `json:"interface,omitempty"`
	Index     int    `json:"index,omitempty"` // the interface's, so that a later one of that name is left alone
	Name      string `json:"name"`
	Was       string `json:"was"`
	Now       string `json:"now"`
}

func (c change) String() string {
	return strings.Join(strings.Fields(c.Kind+" "+c.Interface+" "+c.Name), " ")
}

// kind is one kind of thing that can be put back.
type kind struct {
	check func(c change) error
	// current is the value as it is now, empty where there is none. errGone: there is nothing that could have one.
	current func(c change) (string, error)
	// set gives it the value. What has gone meanwhile is no error.
	set func(c change, value string) error
}

var kinds = map[string]kind{
	"sysctl":  {checkSysctl, currentSysctl, setSysctl},
	"link":    {checkLink, currentLink, setLink},
	"address": {checkAddress, currentAddress, setAddress},
	"route":   {checkRoute, currentRoute, setRoute},
	"nft":     {checkTable, currentTable, setTable},

	"forwarding": {checkForwarding, currentForwarding, setForwarding},
}

var errGone = errors.New("gone")

// place is the first line: where and when the changes hold.
type place struct {
	Schema    string `json:"schema"`
	Boot      string `json:"boot"`
	Namespace string `json:"namespace"`
}

func here() (place, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return place{}, fmt.Errorf("route: %w", err)
	}
	namespace, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return place{}, fmt.Errorf("route: %w", err)
	}
	return place{undoSchema, strings.TrimSpace(string(boot)), namespace}, nil
}

// NewJournal is the journal in the file at path. What an earlier run has left there must be put back before anything is
// recorded.
func NewJournal(path string, log *slog.Logger) *Journal { return &Journal{path: path, log: log} }

// record writes changes that are about to be made.
func (j *Journal) record(changes ...change) error {
	var lines bytes.Buffer
	for _, c := range changes {
		if err := checkChange(c); err != nil {
			return err
		}
		writeLine(&lines, c)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.size+lines.Len() > maxUndo {
		return fmt.Errorf("route: %s would be longer than %d bytes", j.path, maxUndo)
	}
	if err := j.open(); err != nil {
		return fmt.Errorf("route: record what is changed: %w", err)
	}
	_, err := j.file.Write(lines.Bytes())
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil { // the disk may be full: half a line would spoil those that come after it
		return fmt.Errorf("route: record what is changed: %w", errors.Join(err, j.file.Truncate(int64(j.size))))
	}
	j.size += lines.Len()
	j.changes = append(j.changes, changes...)
	return nil
}

// once is record for a change that may be on record: made again, it is undone as one.
func (j *Journal) once(c change) error {
	if j.has(c) {
		return nil
	}
	return j.record(c)
}

// has says whether a change is on record.
func (j *Journal) has(c change) bool {
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

func writeLine(b *bytes.Buffer, v any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // of strings and numbers
	}
}

// PutBack undoes what is on record and removes the file. It gives how many changes it undid. Where one fails the rest is
// still undone, and the file stays, so that it can be tried again.
func (j *Journal) PutBack() (undone int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := secret.Sweep(j.path); err != nil {
		return 0, err
	}
	text, err := secret.ReadFile(j.path, maxUndo)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("what is to be put back: %w", err)
	}
	at, changes, err := parseJournal(text)
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

// release undoes the changes that match while the rest stays on record.
func (j *Journal) release(match func(c change) bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var kept, given []change
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
func (j *Journal) rewrite(changes []change) error {
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
func (j *Journal) undo(changes []change) (undone int, err error) {
	values := map[string]string{} // as they will be once those decided on are put back
	var ours []change             // the newest first
	for _, c := range slices.Backward(changes) {
		value, known := values[c.String()]
		if !known {
			is, e := kinds[c.Kind].current(c)
			if errors.Is(e, errGone) {
				continue
			}
			if e != nil {
				err = errors.Join(err, fmt.Errorf("look at %s: %w", c, e))
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
			err = errors.Join(err, fmt.Errorf("put back %s to %q: %w", c, c.Was, e))
		}
		if done {
			undone++
			j.log.Info("put back", "what", c, "now", c.Was)
		}
	}
	return undone, err
}

// undo gives what was changed the value that it had, unless it has that.
func (c change) undo() (done bool, err error) {
	k := kinds[c.Kind]
	value, err := k.current(c)
	if errors.Is(err, errGone) || err == nil && value == c.Was {
		return false, nil
	}
	if err == nil {
		err = k.set(c, c.Was)
	}
	return err == nil, err
}

// parseJournal reads the file. A malformed line is told by its number.
func parseJournal(text []byte) (at place, changes []change, err error) {
	lines := bytes.Split(text, []byte("\n"))
	for i, line := range lines[:len(lines)-1] { // the last is empty, or not whole
		if i == 0 {
			if err = decodeLine(line, &at); err == nil && at.Schema != undoSchema {
				err = fmt.Errorf("schema %.40q, want %q", at.Schema, undoSchema)
			}
		} else {
			var c change
			if err = decodeLine(line, &c); err == nil {
				err = checkChange(c)
			}
			changes = append(changes, c)
		}
		if err != nil {
			return place{}, nil, fmt.Errorf("%d: %w", i+1, err)
		}
	}
	return at, changes, nil
}

func decodeLine(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("malformed: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("malformed: more than one value")
	}
	return nil
}

func checkChange(c change) error {
	k, known := kinds[c.Kind]
	if !known {
		return fmt.Errorf("malformed: no such kind %.40q", c.Kind)
	}
	for _, s := range []string{c.Interface, c.Name, c.Was, c.Now} {
		if len(s) > maxField || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' }) {
			return fmt.Errorf("malformed: %.40q is no name or value", s)
		}
	}
	if err := k.check(c); err != nil {
		return fmt.Errorf("malformed: %w", err)
	}
	return nil
}
