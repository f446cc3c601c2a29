package policy

import (
	"strings"
	"time"
	"unicode"

	"github.com/tailscale/hujson"
)

func (r *reader) grants(v hujson.Value, d *Document) {
	ids := map[string]Place{}
	r.list(v, "grants", func(v hujson.Value) {
		if len(d.Grants) == maxGrants {
			r.faultAt(v, "there are more than %d grants", maxGrants)
			return
		}
		d.Grants = append(d.Grants, r.grant(v, ids))
	})
}

// grant reads one; ids holds those before it.
func (r *reader) grant(v hujson.Value, ids map[string]Place) Grant {
	g := Grant{Place: r.place(v.StartOffset)}
	r.object(v, "a grant",
		field{"id", true, func(v hujson.Value) { g.ID = r.id(v, ids) }},
		field{"src", true, func(v hujson.Value) { g.Src = some(r, v, "src", r.name) }},
		field{"dst", true, func(v hujson.Value) { g.Dst = some(r, v, "dst", r.name) }},
		field{"allow", true, func(v hujson.Value) { g.Allow = r.allows(v) }},
		field{"note", false, func(v hujson.Value) { g.Note = r.note(v) }},
		field{"until", false, func(v hujson.Value) { g.Until = r.until(v) }},
		field{"disabled", false, func(v hujson.Value) { g.Disabled = r.boolean(v, "disabled") }},
	)
	return g
}

func (r *reader) id(v hujson.Value, ids map[string]Place) string {
	s, ok := r.text(v, "id")
	if !ok {
		return ""
	}
	if !validID(s) {
		r.faultAt(v, "%s cannot be an id: ids have 1 to 63 letters, digits, dots, dashes and underscores", quote(s))
	} else if first, repeated := ids[s]; repeated {
		r.faultAt(v, "id %s is taken by the grant at line %d", quote(s), first.Line)
	} else {
		ids[s] = r.place(v.StartOffset)
	}
	return s
}

// some reads a list of at least one element, each by read.
func some[T any](r *reader, v hujson.Value, what string, read func(hujson.Value, string) (T, bool)) []T {
	var list []T
	r.list(v, what, func(v hujson.Value) {
		if e, ok := read(v, "an element of "+what); ok {
			list = append(list, e)
		}
	})
	r.someElements(v, what)
	return list
}

func (r *reader) name(v hujson.Value, what string) (Name, bool) {
	s, ok := r.text(v, what)
	if !ok {
		return Name{}, false
	}
	n, err := parseName(s)
	n.Place = r.place(v.StartOffset)
	if err != nil {
		r.fault(n.Place, "%v", err)
	}
	return n, err == nil
}

// someElements checks that a list holds at least one element, as an empty one would make the grant mean nothing, and at
// most maxList.
func (r *reader) someElements(v hujson.Value, what string) {
	array, ok := v.Value.(*hujson.Array)
	switch {
	case ok && len(array.Elements) == 0:
		r.faultAt(v, "%s is empty", what)
	case ok && len(array.Elements) > maxList:
		r.faultAt(v, "%s has %d elements; at most %d are read", what, len(array.Elements), maxList)
	}
}

func (r *reader) allows(v hujson.Value) []Allow {
	var allows []Allow
	r.list(v, "allow", func(v hujson.Value) {
		s, ok := r.text(v, "an element of allow")
		if !ok {
			return
		}
		a, err := parseAllow(s)
		if err != nil {
			r.faultAt(v, "%v", err)
			return
		}
		allows = append(allows, a)
	})
	r.someElements(v, "allow")
	return allows
}

func (r *reader) note(v hujson.Value) string {
	s, ok := r.text(v, "note")
	if ok && (len(s) > maxNote || !printable(s)) {
		r.faultAt(v, "note must be one printable line of at most %d bytes", maxNote)
	}
	return s
}

func (r *reader) until(v hujson.Value) time.Time {
	s, ok := r.text(v, "until")
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		r.faultAt(v, "until %s is not an RFC 3339 time: write 2027-01-31T00:00:00Z", quote(s))
	}
	return t.UTC()
}

func (r *reader) test(v hujson.Value) Test {
	t := Test{Place: r.place(v.StartOffset)}
	tried := false
	r.object(v, "a test",
		field{"src", true, func(v hujson.Value) { t.Src, _ = r.name(v, "src of a test") }},
		field{"accept", false, func(v hujson.Value) { t.Accept, tried = some(r, v, "accept", r.probe), true }},
		field{"deny", false, func(v hujson.Value) { t.Deny, tried = some(r, v, "deny", r.probe), true }},
	)
	if !tried && v.Value.Kind() == '{' {
		r.faultAt(v, "a test needs accept or deny")
	}
	return t
}

// probe reads a name and an allowance with a colon between them. Names may hold colons; allowances never do.
func (r *reader) probe(v hujson.Value, what string) (Probe, bool) {
	s, ok := r.text(v, what)
	if !ok {
		return Probe{}, false
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		r.faultAt(v, "%s does not say what is tried: write NAME:tcp/PORT", quote(s))
		return Probe{}, false
	}
	allow, err := parseAllow(s[i+1:])
	if err != nil {
		r.faultAt(v, "%v", err)
		return Probe{}, false
	}
	dst, err := parseName(s[:i])
	if err != nil {
		r.faultAt(v, "%v", err)
		return Probe{}, false
	}
	dst.Place = r.place(v.StartOffset)
	return Probe{dst, allow}, true
}

// references finds the groups and nets that are named and not defined.
func (r *reader) references(d *Document) {
	for _, n := range d.mentions() {
		if n.Kind == NameGroup {
			if _, ok := d.Groups[n.Text]; !ok {
				r.fault(n.Place, "group %s is not defined", quote(n.Text))
			}
		}
		if n.Kind == NameNet {
			if _, ok := d.Nets[n.Text]; !ok {
				r.fault(n.Place, "net %s is not defined", quote(n.Text))
			}
		}
	}
}

// printable says whether s can be shown on a terminal as it is.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}
