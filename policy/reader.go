package policy

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/tailscale/hujson"
)

// reader walks the syntax tree of one document and collects its faults.
type reader struct {
	starts []int // offset of each line's first byte
	faults Errors
}

func newReader(src []byte) *reader {
	r := &reader{starts: []int{0}}
	for i := 0; ; {
		n := bytes.IndexByte(src[i:], '\n')
		if n < 0 {
			return r
		}
		i += n + 1
		r.starts = append(r.starts, i)
	}
}

// place turns an offset into a line and a column.
func (r *reader) place(offset int) Place {
	line := sort.SearchInts(r.starts, offset+1)
	return Place{line, 1 + offset - r.starts[line-1]}
}

func (r *reader) fault(at Place, format string, args ...any) {
	if len(r.faults) < maxErrors {
		r.faults = append(r.faults, Error{at.Line, at.Column, fmt.Sprintf(format, args...)})
	}
}

func (r *reader) faultAt(v hujson.Value, format string, args ...any) {
	r.fault(r.place(v.StartOffset), format, args...)
}

// wrong reports a value of another type than wanted.
func (r *reader) wrong(v hujson.Value, what, wanted string) {
	found := map[hujson.Kind]string{
		'n': "null", 'f': "false", 't': "true", '"': "a string", '0': "a number", '{': "an object", '[': "a list",
	}
	r.faultAt(v, "%s must be %s, not %s", what, wanted, found[v.Value.Kind()])
}

// entries calls each for every member of an object. A repeated name is a fault, and its value is not read.
func (r *reader) entries(v hujson.Value, what string, each func(name string, key, value hujson.Value)) {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		r.wrong(v, what, "an object")
		return
	}
	seen := make(map[string]Place, len(object.Members))
	for _, m := range object.Members {
		name := m.Name.Value.(hujson.Literal).String()
		if first, repeated := seen[name]; repeated {
			r.faultAt(m.Name, "field %s of %s is repeated; it stands at line %d already", quote(name), what, first.Line)
			continue
		}
		seen[name] = r.place(m.Name.StartOffset)
		each(name, m.Name, m.Value)
	}
}

// field is one that an object may have.
type field struct {
	name     string
	required bool
	read     func(v hujson.Value)
}

// object reads the fields of an object; any other is a fault, and so is one that is required and missing.
func (r *reader) object(v hujson.Value, what string, fields ...field) {
	if v.Value.Kind() != '{' {
		r.wrong(v, what, "an object")
		return
	}
	present := make(map[string]bool, len(fields))
	r.entries(v, what, func(name string, key, value hujson.Value) {
		for _, f := range fields {
			if f.name == name {
				present[name] = true
				f.read(value)
				return
			}
		}
		r.faultAt(key, "unknown field %s; %s has %s", quote(name), what, listing(fields))
	})
	for _, f := range fields {
		if f.required && !present[f.name] {
			r.faultAt(v, "%s lacks the field %q", what, f.name)
		}
	}
}

func listing(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// list calls each for every element of a list.
func (r *reader) list(v hujson.Value, what string, each func(v hujson.Value)) {
	array, ok := v.Value.(*hujson.Array)
	if !ok {
		r.wrong(v, what, "a list")
		return
	}
	for _, e := range array.Elements {
		each(e)
	}
}

// text reads a string.
func (r *reader) text(v hujson.Value, what string) (string, bool) {
	if v.Value.Kind() != '"' {
		r.wrong(v, what, "a string")
		return "", false
	}
	return v.Value.(hujson.Literal).String(), true
}

// boolean reads true or false.
func (r *reader) boolean(v hujson.Value, what string) bool {
	if k := v.Value.Kind(); k != 't' && k != 'f' {
		r.wrong(v, what, "true or false")
		return false
	}
	return v.Value.(hujson.Literal).Bool()
}
