package control

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A second implementation of what the package doc specifies, written from the doc and the standards it names, which
// reads what the code writes. It shares no code with the package.

// CBOR (RFC 8949), of which it takes only what core deterministic encoding has.

type reader struct{ b []byte }

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		panic("cut short")
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) head() (major byte, n uint64) {
	first := r.take(1)[0]
	major, n = first>>5, uint64(first&31)
	if n < 24 {
		return major, n
	}
	if n > 27 {
		panic("indefinite or reserved")
	}
	size := uint64(1) << (n - 24)
	var wide [8]byte
	copy(wide[8-size:], r.take(size))
	n = binary.BigEndian.Uint64(wide[:])
	if n < 24 || size > 1 && n>>(size*4) == 0 {
		panic("not the shortest form")
	}
	return major, n
}

// item gives uint64, int64, []byte, string, []any, map[uint64]any, bool or nil.
func (r *reader) item() any {
	major, n := r.head()
	switch major {
	case 0:
		return n
	case 1:
		return -1 - int64(n)
	case 2:
		return bytes.Clone(r.take(n))
	case 3:
		return string(r.take(n))
	case 4:
		list := make([]any, 0, min(n, 1024))
		for range n {
			list = append(list, r.item())
		}
		return list
	case 5:
		fields, last := map[uint64]any{}, -1
		for range n {
			key, ok := r.item().(uint64)
			if !ok || int(key) <= last {
				panic("keys are not ascending numbers")
			}
			last = int(key)
			fields[key] = r.item()
		}
		return fields
	case 7:
		if n == 22 {
			return nil
		}
		if n == 20 || n == 21 {
			return n == 21
		}
	}
	panic(fmt.Sprintf("major type %d, value %d has no place here", major, n))
}

// The tables of the package doc.

type table struct {
	number uint64 // of a message
	fields []string
	array  bool
}

var (
	messageLine = regexp.MustCompile(`^//\t ?(\d+) ([A-Z]\w+) *([\w, ]*)$`)
	mapLine     = regexp.MustCompile(`^//\t([A-Z]\w+)  +([\w, ]+)$`)
	arrayLine   = regexp.MustCompile(`^//\t(\w+)  +\[([\w, ]+)\]$`)
)

func docTables(t *testing.T) map[string]table {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]table{}
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	}
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimRight(line, "\n")
		if m := messageLine.FindStringSubmatch(line); m != nil {
			var n uint64
			fmt.Sscan(m[1], &n)
			tables[m[2]] = table{number: n, fields: split(m[3])}
		} else if m := arrayLine.FindStringSubmatch(line); m != nil {
			tables[m[1]] = table{fields: split(m[2]), array: true}
		} else if m := mapLine.FindStringSubmatch(line); m != nil {
			tables[m[1]] = table{fields: split(m[2])}
		}
	}
	return tables
}

// The tables are the structs: same fields, in the order of their keys, which count from 1.
func TestDocTablesMatchStructs(t *testing.T) {
	tables := docTables(t)
	seen := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || strings.HasPrefix(typ.PkgPath(), "net/") || seen[typ.Name()] {
			return
		}
		seen[typ.Name()] = true
		doc, ok := tables[typ.Name()]
		if !ok {
			t.Errorf("%s is not in the package doc", typ.Name())
			return
		}
		var got []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Name == "_" {
				if !doc.array || f.Tag.Get("cbor") != ",toarray" {
					t.Errorf("%s is an array in one place only", typ.Name())
				}
				continue
			}
			got = append(got, f.Name)
			if key, _, _ := strings.Cut(f.Tag.Get("cbor"), ","); !doc.array && key != fmt.Sprint(len(got)) {
				t.Errorf("%s.%s has key %s, want %d", typ.Name(), f.Name, key, len(got))
			}
			walk(f.Type)
		}
		if fmt.Sprint(got) != fmt.Sprint(doc.fields) {
			t.Errorf("%s has fields %v, the package doc says %v", typ.Name(), got, doc.fields)
		}
	}
	for _, m := range everyMessage() {
		walk(reflect.TypeOf(m))
		if n := tables[typeName(m)].number; n != uint64(m.Type()) {
			t.Errorf("%T is number %d in the package doc", m, n)
		}
	}
	for name := range tables {
		if !seen[name] {
			t.Errorf("the package doc has a table for %s, which no message holds", name)
		}
	}
}

// Every message that the code writes reads, by the doc, as what was written.
func TestSpecReadsMessages(t *testing.T) {
	tables := docTables(t)
	for _, m := range everyMessage() {
		r := &reader{mustMarshal(t, 77, m)}
		outer := r.item().([]any)
		if len(r.b) != 0 || len(outer) != 3 || outer[0] != tables[typeName(m)].number || outer[1] != uint64(77) {
			t.Errorf("%T: envelope %v, %d bytes left", m, outer[:2], len(r.b))
			continue
		}
		want := plain(tables, reflect.ValueOf(m))
		if !reflect.DeepEqual(outer[2], want) {
			t.Errorf("%T: read %.300v, want %.300v", m, outer[2], want)
		}
	}
	want := plain(tables, reflect.ValueOf(&Hello{})) // and one with nothing set
	if got := (&reader{mustMarshal(t, 0, &Hello{})}).item().([]any)[2]; !reflect.DeepEqual(got, want) {
		t.Errorf("empty Hello: read %v, want %v", got, want)
	}
}

// plain is a Go value as the doc says that it stands on the wire.
func plain(tables map[string]table, v reflect.Value) any {
	switch x := v.Interface().(type) {
	case netip.Addr:
		return append([]byte{}, x.AsSlice()...)
	case netip.Prefix:
		return append(x.Addr().AsSlice(), byte(x.Bits()))
	case netip.AddrPort:
		return append(append([]byte{}, x.Addr().AsSlice()...), byte(x.Port()), byte(x.Port()>>8))
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(tables, v.Elem())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint()
	case reflect.Int64: // Until, after 1970 in the fixtures
		return uint64(v.Int())
	case reflect.Array:
		b := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(b), v)
		return b
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append([]byte{}, v.Bytes()...)
		}
		list := []any{}
		for i := range v.Len() {
			list = append(list, plain(tables, v.Index(i)))
		}
		return list
	case reflect.Struct:
		return plainStruct(tables, v)
	}
	return v.Interface()
}

func plainStruct(tables map[string]table, v reflect.Value) any {
	doc, fields, list := tables[v.Type().Name()], map[uint64]any{}, []any{}
	for i, name := range doc.fields {
		f := v.FieldByName(name)
		if strings.HasSuffix(name, "Port") && v.Type().Name() == "Flow" && f.IsZero() {
			continue
		}
		fields[uint64(i+1)] = plain(tables, f)
		list = append(list, fields[uint64(i+1)])
	}
	if doc.array {
		return list
	}
	return fields
}

// The digest of selectors is that of the bytes which a Narrow, or the terms, have of them.
func TestSpecReadsDigest(t *testing.T) {
	ss := termsFixture().Selectors
	r := &reader{mustMarshal(t, 0, &Narrow{Selectors: ss})}
	r.head() // [type, request id, {1: session, 2: selectors
	r.item()
	r.item()
	r.head()
	r.item()
	r.item()
	r.item()
	list := r.b
	r.item()
	hash := sha256.Sum256(list[:len(list)-len(r.b)])
	if d := DigestSelectors(ss); !bytes.Equal(d[:], hash[:16]) {
		t.Errorf("digest %x, by the doc %x", d, hash[:16])
	}
}

// The transcript, item by item, and the keys by the definition of HKDF (RFC 5869).
func checkByHand(t *testing.T, v *vectors, name string) {
	t.Helper()
	tr, tables := scheduleCases()[name], docTables(t)
	want := []any{uint64(1)}
	for _, f := range []any{tr.Suite, tr.Session, tr.A, tr.B, tr.Na, tr.Pub, tr.Enc, tr.Order, tr.Terms} {
		want = append(want, plain(tables, reflect.ValueOf(f)))
	}
	cbor := v.get(t, name+" transcript")
	if got := (&reader{cbor}).item(); !reflect.DeepEqual(got, any(want)) {
		t.Errorf("%s: transcript %.300v, want %.300v", name, got, want)
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	hash := sha256.Sum256(cbor)
	prk := mac(v.get(t, name+" k"), v.get(t, name+" x"))
	toB := mac(prk, []byte("ssmnet/1 key to responder"), hash[:], []byte{1})
	toA := mac(prk, []byte("ssmnet/1 key to requester"), hash[:], []byte{1})
	for field, b := range map[string][]byte{"hash": hash[:], "to-b": toB, "to-a": toA} {
		if !bytes.Equal(b, v.get(t, name+" "+field)) {
			t.Errorf("%s: %s by hand is %x", name, field, b)
		}
	}
}
