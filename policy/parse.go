package policy

// From text to a document:
//
//  1. syntax.go makes the text a tree, and says where it is none.
//  2. document and what it calls, here and in parse_grants.go, walk the tree by means of a reader, which collects faults.
//  3. references looks for what is named and not defined.

import (
	"fmt"
	"slices"
	"time"

	"github.com/tailscale/hujson"
)

// Parse reads a document. A failure is always of type Errors.
func Parse(src []byte) (*Document, error) {
	if len(src) > maxDocument {
		what := fmt.Sprintf("the document has %d bytes; at most %d are read", len(src), maxDocument)
		return nil, Errors{{1, 1, what}}
	}
	src = append(slices.Clone(src), '\n') // a line comment may end the document
	r := newReader(src)
	v, ok := r.tree(src)
	if !ok {
		return nil, r.faults
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

func (r *reader) document(v hujson.Value) *Document {
	d := &Document{Groups: map[string]Group{}, Nets: map[string]Net{}, Session: defaultSession}
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
	if s, ok := r.text(v, "schema"); ok && s != schema {
		r.faultAt(v, "schema %s is not known: write %q", quote(s), schema)
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
			if !validName(s) {
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
	if !validName(name) {
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
