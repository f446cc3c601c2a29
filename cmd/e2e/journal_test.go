package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ssmnet/packet/control"
)

// journal records a long run: what SSMs log, what KDCs audit and what the test does. It is written by write, so that a
// person can read it and two runs give the same text:
//
//   - Sessions are s1, s2, ... in the order in which they came to be.
//   - What went as it should is counted by the hour: a rekey, a session that a first packet asked for and that closed idle,
//     the renewal of a control connection (fold_test.go). Everything else is a line. So a session that was not due, or
//     not ended at both sides, stands out.
//   - What one host says more than a few times in an hour, of whichever session, is one line, with how often and until
//     when.
type journal struct {
	began time.Time
	order []string // who comes first at one moment

	mu     sync.Mutex
	list   []happening
	counts [24]map[string]int // by the hour
	foot   [24][]string       // likewise, lines
	known  *strings.Replacer  // names for addresses
	texts  map[string]string

	names map[control.SessionID]int // write's
}

// happening is one of them. Which fields are set depends on what.
type happening struct {
	at      time.Duration
	seq     int
	who     string // a host or KDC; empty for the test
	what    string
	peer    string
	session control.SessionID
	rest    string
	folded  bool
}

// maxHappenings is made room for at the beginning, so that the journal does not look like a leak.
const maxHappenings = 1 << 15

func newJournal(order ...string) *journal {
	return &journal{began: time.Now(), order: order, known: strings.NewReplacer(), texts: map[string]string{}, list: make([]happening, 0, maxHappenings)}
}

func (j *journal) add(h happening) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if h.at == 0 {
		h.at = time.Since(j.began)
	}
	h.seq = len(j.list)
	h.what, h.peer, h.rest = j.one(h.what), j.one(j.known.Replace(h.peer)), j.one(j.known.Replace(h.rest))
	j.list = append(j.list, h)
}

// one keeps equal texts once.
func (j *journal) one(text string) string {
	if kept, ok := j.texts[text]; ok {
		return kept
	}
	j.texts[text] = text
	return text
}

// knows makes names stand in the place of addresses from now on.
func (j *journal) knows(pairs ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.known = strings.NewReplacer(pairs...)
}

// note is a line of the test's own.
func (j *journal) note(what string) { j.add(happening{what: what}) }

// luck is what a host draws for jitter: the same in every run, as long as it draws in the same minute.
func (j *journal) luck(host string) func(time.Duration) time.Duration {
	return func(below time.Duration) time.Duration {
		h := fnv.New64a()
		fmt.Fprint(h, host, int(time.Since(j.began).Minutes()), below)
		return time.Duration(h.Sum64() % uint64(below))
	}
}

// of is a log handler for one SSM.
func (j *journal) of(host string) slog.Handler { return reporter{j, host} }

type reporter struct {
	j    *journal
	host string
}

func (r reporter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (r reporter) WithAttrs([]slog.Attr) slog.Handler           { panic("not used") }
func (r reporter) WithGroup(string) slog.Handler                { panic("not used") }

// Handle leaves out what is measured or of no interest here.
func (r reporter) Handle(_ context.Context, rec slog.Record) error {
	h := happening{who: r.host, what: rec.Message}
	var rest []string
	rec.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Resolve().Any().(type) {
		case control.SessionID:
			h.session = v
		case control.KeyID, control.Boot: // random
		default:
			switch a.Key {
			case "step", "keys", "after", "suite", "requester":
			case "peer", "for":
				h.peer = a.Value.String()
			case "kdc":
				if h.peer == "" {
					h.peer = a.Value.String()
				} else {
					rest = append(rest, a.Value.String())
				}
			default:
				rest = append(rest, a.Value.String())
			}
		}
		return true
	})
	h.rest = strings.Join(rest, ", ")
	r.j.add(h)
	return nil
}

// audited takes lines of a KDC's audit record.
func (j *journal) audited(who string, lines []byte) {
	for line := range bytes.Lines(lines) {
		var e struct {
			Time                                                         time.Time
			Event, Peer, Requester, Responder, Reason, Flow, Grant, Note string
			Session                                                      control.SessionID
			Count                                                        uint64
		}
		if err := json.Unmarshal(line, &e); err != nil {
			panic(fmt.Sprintf("audit line %q: %v", line, err))
		}
		h := happening{at: e.Time.Sub(j.began), who: who, what: e.Event, peer: e.Peer, session: e.Session}
		if e.Requester != "" {
			h.peer = e.Requester + ">" + e.Responder
		}
		var rest []string
		for _, s := range []string{e.Flow, e.Grant, e.Reason, e.Note} {
			if s != "" {
				rest = append(rest, s)
			}
		}
		if e.Count > 0 {
			rest = append(rest, fmt.Sprintf("%d times", e.Count))
		}
		h.rest = strings.Join(rest, ", ")
		j.add(h)
	}
}

// tally counts what need not be a line.
func (j *journal) tally(at time.Duration, what string, n int) {
	if n == 0 {
		return
	}
	if j.counts[int(at.Hours())] == nil {
		j.counts[int(at.Hours())] = map[string]int{}
	}
	j.counts[int(at.Hours())][what] += n
}

// write makes the text. Happenings of one moment stand in the order of the hosts, and of one host by whom they concern.
func (j *journal) write() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.name()
	slices.SortFunc(j.list, func(a, b happening) int {
		return cmp.Or(j.compare(a, b), cmp.Compare(j.names[a.session], j.names[b.session]), cmp.Compare(a.seq, b.seq))
	})
	j.fold()
	var b strings.Builder
	for hour := range len(j.counts) {
		fmt.Fprintf(&b, "\n%02d o'clock\n\n", hour)
		from := time.Duration(hour) * time.Hour
		for _, l := range j.lines(j.between(from, from+time.Hour)) {
			b.WriteString(l)
		}
		for _, what := range slices.Sorted(maps.Keys(j.counts[hour])) {
			fmt.Fprintf(&b, "  %s: %d\n", what, j.counts[hour][what])
		}
		for _, l := range j.foot[hour] {
			fmt.Fprintf(&b, "  %s\n", l)
		}
	}
	return b.String()
}

func (j *journal) compare(a, b happening) int {
	rank := func(h happening) int { return slices.Index(j.order, h.who) }
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.peer, b.peer))
}

// name gives each session its number.
func (j *journal) name() {
	slices.SortStableFunc(j.list, j.compare)
	j.names = map[control.SessionID]int{}
	for _, h := range j.list {
		if _, known := j.names[h.session]; !known && h.session != (control.SessionID{}) {
			j.names[h.session] = len(j.names) + 1
		}
	}
}

func (j *journal) between(from, to time.Duration) (list []happening) {
	for _, h := range j.list {
		if h.at >= from && h.at < to && !h.folded {
			list = append(list, h)
		}
	}
	return list
}

// maxEqual is how many equal lines an hour may have.
const maxEqual = 3

// lines writes happenings down and joins what is said too often.
func (j *journal) lines(list []happening) (lines []string) {
	text := func(h happening, session string) string {
		line := fmt.Sprintf("%-5s %s", h.who, h.what)
		for _, s := range []string{session, h.peer} {
			if s != "" {
				line += " " + s
			}
		}
		if h.rest != "" {
			line += ": " + h.rest
		}
		return line
	}
	times, last := map[string]int{}, map[string]time.Duration{}
	for _, h := range list {
		times[text(h, "")]++
		last[text(h, "")] = h.at
	}
	for _, h := range list {
		key, session, often := text(h, ""), "", ""
		switch n := times[key]; {
		case n == 0:
			continue
		case n > maxEqual:
			often = fmt.Sprintf(" (%d times until %s)", n, clock(last[key]))
			times[key] = 0
		}
		if h.session != (control.SessionID{}) {
			session = fmt.Sprintf("s%d", j.names[h.session])
		}
		lines = append(lines, fmt.Sprintf("  %s %s%s\n", clock(h.at), text(h, session), often))
	}
	return lines
}

func clock(d time.Duration) string { return time.Time{}.Add(d).Format(time.TimeOnly) }
