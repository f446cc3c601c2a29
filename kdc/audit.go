package kdc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"ssmnet/packet/control"
)

// The audit record is a file of JSON lines, one event each, never a key or a token. Lines are queued and appended in
// groups by one goroutine, which syncs at most every auditSync. Where a group cannot be written the KDC stops issuing
// until one can: what cannot be recorded is not decided.
const (
	auditSync  = 100 * time.Millisecond
	auditRetry = time.Second
	auditQueue = 8 << 20        // bytes that wait; with more the KDC stops issuing
	auditLimit = 2 * auditQueue // bytes that wait; with more events are lost, and counted
	maxTorn    = 16 << 10       // bytes that are kept of a torn line; a whole one is far shorter
)

// AuditSink is where the audit record goes; *os.File is one.
type AuditSink interface {
	io.Writer
	Sync() error
}

// event is one line. Which fields are set depends on the event.
type event struct {
	Time      time.Time         `json:"time"`
	Event     string            `json:"event"`
	Peer      string            `json:"peer,omitempty"`
	Session   control.SessionID `json:"session,omitzero"`
	Requester string            `json:"requester,omitempty"`
	Responder string            `json:"responder,omitempty"`
	Flow      string            `json:"flow,omitempty"`
	Grant     string            `json:"grant,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	AsOf      control.AsOf      `json:"as_of,omitzero"`
	KeyID     control.KeyID     `json:"key_id,omitzero"`
	Boot      control.Boot      `json:"boot,omitzero"`
	Source    string            `json:"source,omitempty"`
	Revision  uint64            `json:"policy_revision,omitempty"`
	Count     uint64            `json:"count,omitempty"`
	Note      string            `json:"note,omitempty"`
}

type audit struct {
	sink AuditSink
	now  func() time.Time
	log  *slog.Logger
	wake chan struct{} // one slot

	mu    sync.Mutex
	queue []byte
	lost  uint64
	err   error
}

func newAudit(sink AuditSink, now func() time.Time, log *slog.Logger) *audit {
	return &audit{sink: sink, now: now, log: log, wake: make(chan struct{}, 1)}
}

// add queues one event; it never blocks.
func (a *audit) add(e event) {
	e.Time = a.now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // plain values always encode
	}
	a.mu.Lock()
	if len(a.queue)+len(line) < auditLimit {
		a.queue = append(append(a.queue, line...), '\n')
	} else {
		a.lost++
	}
	a.mu.Unlock()
	a.rouse()
}

// failing says why decisions cannot be recorded, or nil.
func (a *audit) failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil && len(a.queue) > auditQueue {
		return fmt.Errorf("audit: more than %d MiB wait to be written", auditQueue>>20)
	}
	return a.err
}

// run writes until stop closes and everything that was queued is out, or cannot be.
func (a *audit) run(stop <-chan struct{}) {
	for {
		select {
		case <-a.wake:
		case <-stop:
			a.flush()
			return
		}
		pause := auditSync
		if a.flush() != nil {
			pause = auditRetry
			a.rouse()
		}
		select {
		case <-time.After(pause):
		case <-stop:
		}
	}
}

func (a *audit) rouse() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// flush writes and syncs what is queued. What could not be written goes back to the head of the queue.
func (a *audit) flush() error {
	a.mu.Lock()
	group, lost := a.queue, a.lost
	a.queue, a.lost = nil, 0
	a.mu.Unlock()
	if lost > 0 {
		line, _ := json.Marshal(event{Time: a.now().UTC(), Event: "audit.lost", Count: lost})
		group = append(append(group, line...), '\n')
	}
	n, err := a.write(group)
	a.mu.Lock()
	if err != nil {
		a.queue = append(group[n:], a.queue...)
		err = fmt.Errorf("audit: %w", err)
	}
	before := a.err
	a.err = err
	a.mu.Unlock()
	switch { // without the lock: a log that stands still must not hold up add
	case err != nil && before == nil:
		a.log.Error("the audit record cannot be written: no key is issued", "error", err)
	case err == nil && before != nil:
		a.log.Warn("the audit record is written again")
	}
	return err
}

// write appends a group. What a failed write left behind is cut off again where the sink allows it, so that no line
// stands there half or twice; n is then zero, and otherwise what remains to be skipped.
func (a *audit) write(group []byte) (n int, err error) {
	if len(group) > 0 {
		if n, err = a.sink.Write(group); err != nil {
			return a.undo(n), err
		}
	}
	return len(group), a.sink.Sync()
}

func (a *audit) undo(n int) int {
	f, ok := a.sink.(*os.File)
	if !ok || n == 0 {
		return n
	}
	info, err := f.Stat()
	if err != nil || f.Truncate(info.Size()-int64(n)) != nil {
		return n
	}
	return 0
}

// openAudit opens the record of a directory for appending.
func openAudit(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit %w", err)
	}
	if err := mendAudit(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("audit %w", err)
	}
	return f, nil
}

// mendAudit puts what a crash has left of a last line into a whole one: every line is JSON, whoever reads them. Of more
// than a line can be, such as zeros that a power cut left in place of a group, the beginning is kept.
func mendAudit(f *os.File) error {
	begin, end, err := lastLine(f)
	if err != nil || begin == end {
		return err
	}
	torn := make([]byte, min(end-begin, maxTorn))
	if _, err := f.ReadAt(torn, begin); err != nil {
		return err
	}
	line := bytes.Clone(torn)
	if int64(len(torn)) < end-begin || !json.Valid(torn) { // otherwise it lacks its end alone
		e := event{Time: time.Now().UTC(), Event: "audit.torn", Note: printable(string(torn), maxTorn)}
		if line, err = json.Marshal(e); err != nil {
			return err
		}
	}
	if err := f.Truncate(begin); err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return err
}

// lastLine is where what follows the last end of a line begins and ends in a file: looked for from the end on.
func lastLine(f *os.File) (begin, end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	b := make([]byte, min(info.Size(), maxTorn))
	for begin = info.Size(); begin > 0; begin -= int64(len(b)) {
		b = b[:min(begin, int64(len(b)))]
		if _, err := f.ReadAt(b, begin-int64(len(b))); err != nil {
			return 0, 0, err
		}
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			return begin - int64(len(b)-i-1), info.Size(), nil
		}
	}
	return 0, info.Size(), nil
}

// printable cuts text from outside down to limit bytes and to what can be shown on a terminal on one line.
func printable(s string, limit int) string {
	s = s[:min(len(s), limit)]
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
