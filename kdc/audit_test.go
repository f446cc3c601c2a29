package kdc

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shortWriter takes so many bytes and then is full, like a disk.
type shortWriter struct {
	bytes.Buffer
	room int
}

func (w *shortWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.room)
	w.room -= n
	w.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errDiskFull
	}
	return n, nil
}

func (w *shortWriter) Sync() error { return nil }

// TestAuditAfterFullDisk: lines are neither lost nor doubled nor broken.
func TestAuditAfterFullDisk(t *testing.T) {
	w := &shortWriter{room: 100}
	a := newAudit(w, time.Now, slog.New(slog.DiscardHandler))
	for range 5 {
		a.add(event{Event: "grant", Requester: "a"})
	}
	if a.flush() == nil || a.failing() == nil {
		t.Fatal("a full disk went unnoticed")
	}
	a.add(event{Event: "last"})
	w.room = 1 << 20
	if err := a.flush(); err != nil || a.failing() != nil {
		t.Fatal(err, a.failing())
	}
	l := &ledger{text: w.Buffer}
	if g, last := l.events(t, "grant"), l.events(t, "last"); len(g) != 5 || len(last) != 1 {
		t.Errorf("%d and %d lines, want 5 and 1", len(g), len(last))
	}
}

func TestAuditQueueIsBounded(t *testing.T) {
	l := new(ledger)
	a := newAudit(l, time.Now, slog.New(slog.DiscardHandler))
	note := strings.Repeat("x", 64<<10)
	for range auditLimit/len(note) + 10 {
		a.add(event{Event: "big", Note: note})
	}
	if a.failing() == nil {
		t.Error("a long queue does not stop issuing")
	}
	if len(a.queue) > auditLimit {
		t.Errorf("%d bytes queued", len(a.queue))
	}
	if err := a.flush(); err != nil {
		t.Fatal(err)
	}
	if lost := l.events(t, "audit.lost"); len(lost) != 1 || lost[0].Count < 10 {
		t.Errorf("lost events are recorded as %+v", lost)
	}
}

// TestAuditGroups: a burst costs one sync.
func TestAuditGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(syncCounter)
		a := newAudit(s, time.Now, slog.New(slog.DiscardHandler))
		stop, done := make(chan struct{}), make(chan struct{})
		go func() { a.run(stop); close(done) }()
		a.add(event{Event: "first"})
		synctest.Wait()
		for range 1000 {
			a.add(event{Event: "burst"})
		}
		time.Sleep(auditSync)
		synctest.Wait()
		if s.syncs != 2 {
			t.Errorf("%d syncs, want 2", s.syncs)
		}
		a.add(event{Event: "at the end"})
		close(stop)
		<-done
		if n := len(s.events(t, "burst")) + len(s.events(t, "at the end")); n != 1001 {
			t.Errorf("%d lines, want 1001", n)
		}
	})
}

// unlocked is a log that must not be waited for under a lock.
type unlocked struct {
	bytes.Buffer
	*testing.T
	mu *sync.Mutex
}

func (u *unlocked) Write(b []byte) (int, error) {
	if u.mu.TryLock() {
		u.mu.Unlock()
	} else {
		u.Errorf("whoever adds an event waits for the log to take %q", b)
	}
	return u.Buffer.Write(b)
}

// TestAuditFailureIsLogged: once when it begins, with the cause, and once when it is over. Nobody else waits for the log.
func TestAuditFailureIsLogged(t *testing.T) {
	text := &unlocked{T: t}
	var l ledger
	a := newAudit(&l, time.Now, slog.New(slog.NewTextHandler(text, nil)))
	text.mu = &a.mu
	for _, fails := range []error{nil, errDiskFull, errDiskFull, nil, nil} {
		l.breakDown(fails)
		a.add(event{Event: "x"})
		if err := a.flush(); !errors.Is(err, fails) {
			t.Errorf("flush: %v, want %v", err, fails)
		}
	}
	if n := len(l.events(t, "x")); n != 5 {
		t.Errorf("%d events in the record, want 5", n)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], errDiskFull.Error()) || !strings.Contains(lines[1], "again") {
		t.Errorf("logged %q", lines)
	}
}

type syncCounter struct {
	ledger
	syncs int
}

func (s *syncCounter) Sync() error { s.syncs++; return nil }

// TestOpenAuditMendsTornLine: whatever a crash has left, every line can be read, and what is left of one is kept.
func TestOpenAuditMendsTornLine(t *testing.T) {
	for torn, mended := range map[string][]string{
		"": nil, `{"eve`: {`audit.torn {"eve`}, "\x00\x00": {"audit.torn "}, `{"event":"grant"}`: {"grant "},
	} {
		path := filepath.Join(t.TempDir(), auditFile)
		check(t, os.WriteFile(path, []byte("{\"event\":\"whole\"}\n"+torn), 0o600))
		f, err := openAudit(path)
		check(t, err)
		a := newAudit(f, time.Now, slog.New(slog.DiscardHandler))
		a.add(event{Event: "next"})
		check(t, a.flush())
		check(t, f.Close())
		text, err := os.ReadFile(path)
		check(t, err)
		var got []string
		for line := range strings.Lines(string(text)) {
			var e event
			check(t, json.Unmarshal([]byte(line), &e))
			got = append(got, e.Event+" "+e.Note)
		}
		want := slices.Concat([]string{"whole "}, mended, []string{"next "})
		if !slices.Equal(got, want) {
			t.Errorf("after %q the record has %q, want %q", torn, got, want)
		}
	}
}

// TestOpenAuditMendsLongTail: a power cut may leave a tail of zeros as long as a group of lines.
func TestOpenAuditMendsLongTail(t *testing.T) {
	for _, size := range []int{maxTorn - 1, maxTorn, maxTorn + 1, 5 * maxTorn} {
		for _, tail := range []string{strings.Repeat("\x00", size), strings.Repeat("x", size)} {
			mends(t, []byte(tail))
		}
	}
}

// mends opens a record with such a tail behind a whole line, and appends to it.
func mends(t *testing.T, tail []byte) {
	t.Helper()
	const whole = "{\"event\":\"whole\"}\n"
	path := filepath.Join(t.TempDir(), auditFile)
	check(t, os.WriteFile(path, append([]byte(whole), tail...), 0o600))
	for range 2 {
		f, err := openAudit(path)
		check(t, err)
		a := newAudit(f, time.Now, slog.New(slog.DiscardHandler))
		a.add(event{Event: "next"})
		check(t, a.flush())
		check(t, f.Close())
	}
	text, err := os.ReadFile(path)
	check(t, err)
	ended := bytes.LastIndexByte(tail, '\n') + 1
	if !bytes.HasPrefix(text, append([]byte(whole), tail[:ended]...)) || !bytes.HasSuffix(text, []byte("\n")) {
		t.Fatalf("%.100q became %.200q", tail, text)
	}
	if len(text) > len(whole)+ended+6*min(maxTorn, len(tail)-ended)+1000 {
		t.Errorf("%d bytes of a record with a tail of %d", len(text), len(tail))
	}
	lines := slices.Collect(bytes.Lines(text[len(whole)+ended:]))
	want := 2
	if ended < len(tail) {
		want = 3
	}
	if len(lines) != want {
		t.Fatalf("%.100q became %d lines, want %d", tail, len(lines), want)
	}
	for _, line := range lines {
		if !json.Valid(line) {
			t.Errorf("%.100q leaves the line %.200q", tail, line)
		}
	}
}

// FuzzMendAudit: whatever the end of the record is, the lines before it stay, and those after it are JSON, one each.
func FuzzMendAudit(f *testing.F) {
	for _, tail := range []string{"", "{\"eve", "\x00\x00", "{\"event\":\"grant\"}", "a\nb", "{}\n{}\n", "\xff\xfe\x1b[2J"} {
		f.Add([]byte(tail))
	}
	f.Fuzz(func(t *testing.T, tail []byte) { mends(t, tail) })
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"ssm 1.0": "ssm 1.0", "a\nb\x1b[2J": "ab[2J", "\xff\xfe": "", "日本": "日本",
		strings.Repeat("x", 99): strings.Repeat("x", 64),
	} {
		if got := printable(in, 64); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestRotationIsNotRecordedInTheClear: no next key stands open in the store or the audit record.
func TestRotationIsNotRecordedInTheClear(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		c.rotate("a")
		id := a.delivered()
		c.stop()
		entries, _, err := c.store.List(t.Context(), "")
		if err != nil || len(c.ledger.events(t, "key.rotate")) != 1 {
			t.Fatal("the rotation is not recorded ", err)
		}
		places := [][]byte{c.ledger.text.Bytes()}
		for _, e := range entries {
			places = append(places, e.Value)
		}
		for _, form := range encodings(id.Key.Bytes()) {
			for _, text := range places {
				if bytes.Contains(text, []byte(form)) {
					t.Error("the key stands in the clear")
				}
			}
		}
	})
}
