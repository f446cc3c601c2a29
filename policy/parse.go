package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// Parse reads a document. A failure is always of type Errors.
func Parse(src []byte) (*Document, error) {
	if len(src) > MaxDocument {
		what := fmt.Sprintf("the document has %d bytes; at most %d are read", len(src), MaxDocument)
		return nil, Errors{{1, 1, what}}
	}
	end := len(src)
	src = append(slices.Clone(src), '\n') // a line comment may end the document
	r := newReader(src)
	if at, what := unreadable(src); what != "" {
		r.fault(r.place(at), "%s", what)
		return nil, r.faults
	}
	v, err := hujson.Parse(src)
	if err != nil {
		return nil, Errors{syntaxError(err, r.place(end))}
	}
	d := r.document(v)
	r.references(d)
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, comparePlaces)
		return nil, r.faults
	}
	return d, nil
}

func comparePlaces(a, b Error) int {
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	return a.Column - b.Column
}

// unreadable finds what must not reach the HuJSON parser: text that is not UTF-8, which it would mend in silence, and
// nesting, on which it recurses without bound.
func unreadable(src []byte) (offset int, what string) {
	if !utf8.Valid(src) {
		for offset < len(src) {
			c, n := utf8.DecodeRune(src[offset:])
			if c == utf8.RuneError && n == 1 {
				break
			}
			offset += n
		}
		return offset, "the text is not UTF-8"
	}
	depth := 0
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return i, fmt.Sprintf("lists and objects are nested deeper than %d", maxDepth)
			}
		case '}', ']':
			depth--
		case '"':
			i = skipString(src, i)
		case '/':
			i = skipComment(src, i)
		}
	}
	return 0, ""
}

// skipString gives the offset of the quote that ends the string begun at i, or the end of src.
func skipString(src []byte, i int) int {
	for i++; i < len(src) && src[i] != '"'; i++ {
		if src[i] == '\\' {
			i++
		}
	}
	return i
}

// skipComment gives the offset of the last byte of the comment begun at i; i itself where none begins.
func skipComment(src []byte, i int) int {
	var end []byte
	switch {
	case bytes.HasPrefix(src[i:], []byte("//")):
		end = []byte("\n")
	case bytes.HasPrefix(src[i:], []byte("/*")):
		end = []byte("*/")
	default:
		return i
	}
	if n := bytes.Index(src[i+2:], end); n >= 0 {
		return i + 2 + n + len(end) - 1
	}
	return len(src)
}

// syntaxError takes the place out of an error of hujson.Parse, whose text begins "hujson: line L, column C: ". The end
// of the document is the last place there is.
func syntaxError(err error, end Place) Error {
	e := Error{Line: 1, Column: 1, Message: err.Error()}
	if _, scanErr := fmt.Sscanf(e.Message, "hujson: line %d, column %d:", &e.Line, &e.Column); scanErr == nil {
		e.Message = errors.Unwrap(err).Error()
	}
	if literal, ok := strings.CutPrefix(e.Message, "invalid literal: "); ok {
		e.Message = "malformed value " + quote(literal)
	}
	if what, ok := strings.CutSuffix(e.Message, ": "+io.ErrUnexpectedEOF.Error()); ok {
		e.Message = "the document ends too early, " + what
	}
	if e.Line > end.Line {
		e.Line, e.Column = end.Line, end.Column
	}
	return e
}

func (r *reader) document(v hujson.Value) *Document {
	d := &Document{Groups: map[string]Group{}, Nets: map[string]Net{}, Session: DefaultSession}
	r.object(v, "the document",
		field{"schema", true, r.schema},
		field{"groups", false, func(v hujson.Value) { r.groups(v, d) }},
		field{"nets", false, func(v hujson.Value) { r.nets(v, d) }},
		field{"session", false, func(v hujson.Value) { r.session(v, &d.Session) }},
		field{"grants", false, func(v hujson.Value) { r.grants(v, d) }},
		field{"tests", false, func(v hujson.Value) {
			r.list(v, "tests", func(v hujson.Value) { d.Tests = append(d.Tests, r.test(v)) })
		}},
	)
	return d
}

func (r *reader) schema(v hujson.Value) {
	if s, ok := r.text(v, "schema"); ok && s != Schema {
		r.faultAt(v, "schema %s is not known: write %q", quote(s), Schema)
	}
}

func (r *reader) groups(v hujson.Value, d *Document) {
	r.entries(v, "groups", func(name string, key, value hujson.Value) {
		r.defined(key, name)
		g := Group{Place: r.place(key.StartOffset)}
		r.list(value, "a group", func(v hujson.Value) {
			s, ok := r.text(v, "a member of a group")
			if !ok {
				return
			}
			if !ValidName(s) {
				r.faultAt(v, "%s is not the name of a peer, and groups hold nothing else: %s", quote(s), nameRule)
				return
			}
			g.Members = append(g.Members, Name{Kind: NamePeer, Text: s, Place: r.place(v.StartOffset)})
		})
		d.Groups[name] = g
	})
}

func (r *reader) nets(v hujson.Value, d *Document) {
	r.entries(v, "nets", func(name string, key, value hujson.Value) {
		r.defined(key, name)
		n := Net{Place: r.place(key.StartOffset)}
		if s, ok := r.text(value, "a net"); ok {
			var err error
			if n.Prefix, err = parsePrefix(s); err != nil {
				r.faultAt(value, "net %s: %v", quote(name), err)
			}
		}
		d.Nets[name] = n
	})
}

// defined checks the name that a group or a net is given.
func (r *reader) defined(key hujson.Value, name string) {
	if !ValidName(name) {
		r.faultAt(key, "%s cannot name a group or a net: %s", quote(name), nameRule)
	}
}

func (r *reader) session(v hujson.Value, s *Session) {
	r.object(v, "session",
		field{"rekey", false, func(v hujson.Value) { r.lifetime(v, "rekey", 24*time.Hour, &s.Rekey) }},
		field{"idle", false, func(v hujson.Value) { r.lifetime(v, "idle", 24*time.Hour, &s.Idle) }},
		field{"grace", false, func(v hujson.Value) { r.lifetime(v, "grace", 7*24*time.Hour, &s.Grace) }},
	)
}

// lifetime reads a duration of at least a second.
func (r *reader) lifetime(v hujson.Value, what string, most time.Duration, to *time.Duration) {
	s, ok := r.text(v, what)
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		r.faultAt(v, "%s %s is not a duration: write 90s, 10m or 1h30m", what, quote(s))
	case d < time.Second || d > most:
		r.faultAt(v, "%s %s is out of bounds: 1s to %gh", what, quote(s), most.Hours())
	default:
		*to = d
	}
}

// printable says whether s can be shown on a terminal as it is.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
