package control_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// The second implementation against the first. Fixtures are the vectors in testdata, which are the first one's.

func TestSpecIsIndependent(t *testing.T) {
	for _, part := range []string{"cbor", "messages", "channel", "keys"} {
		f, err := parser.ParseFile(token.NewFileSet(), "spec_"+part+"_test.go", nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if strings.HasPrefix(i.Path.Value, `"ssmnet/`) {
				t.Errorf("spec_%s_test.go imports %s", part, i.Path.Value)
			}
		}
	}
}

// specVectors reads the lines "name = hex" of a file in testdata.
func specVectors(t *testing.T, file string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	vectors := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && line[0] != '#' {
			if vectors[name], err = hex.DecodeString(value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return vectors
}

// The doc's tables are the structs: the same fields in the same order; and its numbers are the messages'.
func TestSpecTables(t *testing.T) {
	tables, seen := specReadTables(), map[string]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || strings.HasPrefix(typ.PkgPath(), "net/") || seen[typ.Name()] {
			return
		}
		seen[typ.Name()] = true
		var names, want []string
		for _, f := range reflect.VisibleFields(typ) {
			if f.Name != "_" {
				names = append(names, f.Name)
				walk(f.Type)
			}
		}
		for _, f := range tables[typ.Name()].fields {
			want = append(want, f.name)
		}
		if fmt.Sprint(names) != fmt.Sprint(want) {
			t.Errorf("%s has fields %v, by the doc %v", typ.Name(), names, want)
		}
	}
	for name, b := range specVectors(t, "messages.txt") {
		e, err := control.Unmarshal(b)
		if err != nil || uint64(e.Message.Type()) != tables[name].number {
			t.Errorf("%s is number %d by the doc, %v", name, tables[name].number, err)
			continue
		}
		walk(reflect.TypeOf(e.Message))
	}
	for name := range tables {
		if !seen[name] {
			t.Errorf("the doc has a table for %s, which no message holds", name)
		}
	}
	known := map[uint64]bool{}
	for _, table := range tables {
		known[table.number] = true
	}
	for n := range uint64(256) {
		e, err := control.Unmarshal(specEncode([]any{n, uint64(7), specMap{}}))
		_, unknown := e.Message.(*control.UnknownMessage)
		if (err == nil && unknown) == (n > 0 && known[n]) {
			t.Errorf("type %d: unknown %t, by the doc %t", n, unknown, !known[n])
		}
	}
}

// The reasons of the doc are those of the code, with its stars where another KDC is to be asked, and no others.
func TestSpecReasons(t *testing.T) {
	names := map[string]control.Reason{
		"Denied": control.Denied, "Unknown": control.Unknown, "Offline": control.Offline, "Behind": control.Behind,
		"Detached": control.Detached, "Unavailable": control.Unavailable, "Busy": control.Busy,
		"Malformed": control.Malformed, "Conflict": control.Conflict, "Refused": control.Refused,
		"Unsupported": control.Unsupported, "Suspended": control.Suspended, "Changed": control.Changed,
		"Operator": control.Operator, "Restarted": control.Restarted, "NoKDC": control.NoKDC,
	}
	line := regexp.MustCompile(`^//\t([ \d]\d) (\w+) +(\* )?\w`)
	var listed control.Reason
	for _, l := range specSection("Reasons") {
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		listed++
		r := names[m[2]]
		if r != listed || strings.TrimSpace(m[1]) != fmt.Sprint(uint8(r)) || r.AskAnother() != (m[3] != "") {
			t.Errorf("%q: number %d in the code, to ask another %t", l, uint8(r), r.AskAnother())
		}
	}
	for r := range control.Reason(255) {
		if named := r.String() != fmt.Sprintf("reason %d", uint8(r)); named != (r > 0 && r <= listed) {
			t.Errorf("reason %d, %q: the doc lists %d", uint8(r), r, listed)
		}
	}
}

// The doc's times are the code's.
func TestSpecTimes(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]time.Duration{
		"HandshakeTimeout": control.HandshakeTimeout, "PingInterval": control.PingInterval, "DeadAfter": control.DeadAfter,
		"AcceptTimeout": control.AcceptTimeout, "RequestTimeout": control.RequestTimeout, "HoldTimeout": control.HoldTimeout,
		"ConfirmTimeout": control.ConfirmTimeout,
	} {
		said := regexp.MustCompile(fmt.Sprintf(`%s \(%.0f s\)|\b%[2]g s[\w ]*[\s/]*\(%[1]s\)`, name, d.Seconds()))
		if !said.Match(doc) {
			t.Errorf("the doc does not say that %s is %v", name, d)
		}
	}
}

// Every message of the first implementation reads by the doc, and writes again to the same bytes.
func TestSpecReadsMessages(t *testing.T) {
	tables, vectors := specReadTables(), specVectors(t, "messages.txt")
	for name, b := range vectors {
		m, err := tables.message(b)
		if err != nil || m.name != name || m.id != 9 {
			t.Errorf("%s reads as %s, id %d, %v", name, m.name, m.id, err)
		} else if got := m.encode(); !bytes.Equal(got, b) {
			t.Errorf("%s writes as %x", name, got)
		}
	}
}

// verdict is what the first implementation makes of a message: its encoding, or that it is malformed.
func verdict(t *testing.T, b []byte) (again []byte, malformed bool) {
	t.Helper()
	e, err := control.Unmarshal(b)
	if err != nil {
		if !errors.Is(err, control.ErrMalformed) {
			t.Fatalf("%x: %v", b, err)
		}
		return nil, true
	}
	if _, unknown := e.Message.(*control.UnknownMessage); unknown {
		return nil, false
	}
	if again, err = control.Marshal(e); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return again, false
}

// Of messages with one thing changed, at any place, both take the same and read the same in them.
func TestSpecJudgesMessages(t *testing.T) {
	tables := specReadTables()
	took, refused, may := 0, 0, 0
	for name, b := range specVectors(t, "messages.txt") {
		whole, err := specDecode(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, changed := range append(specChanges(whole), specLongLists(whole)...) {
			b := specEncode(changed)
			m, err := tables.message(b)
			got, malformed := verdict(t, b)
			switch {
			case errors.Is(err, errSpecMay):
				may++
			case (err != nil) != malformed:
				t.Errorf("%s as %x: malformed %t, by the doc %v", name, b, malformed, err)
			case err != nil:
				refused++
			case m.name != "" && !bytes.Equal(got, m.encode()):
				t.Errorf("%s as %x: read as %x, by the doc %x", name, b, got, m.encode())
			default:
				took++
			}
		}
	}
	if took < 1000 || refused < 3000 || may > took+refused {
		t.Errorf("%d were taken, %d refused, of %d the doc does not say", took, refused, may)
	}
}

// specChanges are a value with one part of it replaced, left out or added to, for every part.
func specChanges(v any) []any {
	out := []any{
		uint64(0), uint64(255), uint64(256), uint64(1 << 16), uint64(1 << 32), uint64(1 << 63), specNegative(0),
		specNegative(1 << 63), true, nil, "", "b", "-b", "[fe80::1]:1", strings.Repeat("b", 64), strings.Repeat("b", 129), "\x01",
		[]any{}, specMap{}, specNest(4), specNest(5), specNest(6), []byte{}, make([]byte, 2), make([]byte, 4),
		[]byte{10, 0, 0, 1, 32}, []byte{10, 0, 0, 1, 31}, []byte{10, 0, 0, 0, 33}, make([]byte, 6), []byte{10, 0, 0, 1, 1, 0},
		make([]byte, 8), make([]byte, 16), append(make([]byte, 10), 255, 255, 10, 0, 0, 1), append(make([]byte, 15), 1, 128),
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			for _, c := range specChanges(e) {
				out = append(out, append(append(append([]any{}, v[:i]...), c), v[i+1:]...))
			}
			out = append(out, append(append([]any{}, v[:i]...), v[i+1:]...))
		}
		out = append(out, append(append([]any{}, v...), uint64(0)))
		for _, n := range []int{8, 9, 10, 11} {
			if len(v) > 0 {
				out = append(out, slices.Repeat(v[:1], n))
			}
		}
	case specMap:
		for i, p := range v {
			for _, c := range specChanges(p.value) {
				out = append(out, append(append(append(specMap{}, v[:i]...), specPair{p.key, c}), v[i+1:]...))
			}
			out = append(out, append(append(specMap{}, v[:i]...), v[i+1:]...))
			out = append(out, append(append(specMap{}, v...), p)) // twice
		}
		for _, key := range []any{uint64(0), uint64(99), specNegative(0), "name"} {
			out = append(out, append(append(specMap{}, v...), specPair{key, []any{specMap{}}}))
		}
	}
	return out
}

// specLongLists are a message with the lists of its body as long as any may be, and longer.
func specLongLists(message any) (out []any) {
	parts := message.([]any)
	body := parts[2].(specMap)
	for i, p := range body {
		list, ok := p.value.([]any)
		if !ok || len(list) == 0 {
			continue
		}
		for _, n := range []int{256, 257, 512, 513} {
			long := specPair{p.key, slices.Repeat(list[:1], n)}
			out = append(out, []any{parts[0], parts[1], append(append(append(specMap{}, body[:i]...), long), body[i+1:]...)})
		}
	}
	return out
}

// specNest is so many arrays in one another.
func specNest(n int) any {
	var v any = uint64(0)
	for range n {
		v = []any{v}
	}
	return v
}

// What is not well-formed, both refuse; a longer form of a number, or map keys in another order, both take.
func TestSpecJudgesEncodings(t *testing.T) {
	tables := specReadTables()
	for text, malformed := range map[string]bool{
		"83 14 00 a0": false, "83 14 18 00 a0": false, "9b 0000000000000003 14 00 a0": false, "83 15 00 a2 02 f5 01 82 01 02": false,
		"": true, "83 14 00": true, "83 14 00 a0 00": true, "9f 14 00 a0 ff": true, "83 14 00 bf ff": true, "c1 83 14 00 a0": true,
		"83 15 00 a1 02 c1 f5": true, "83 15 00 a2 02 f5 02 f4": true, "83 15 00 a2 02 f5 18 02 f4": true, "83 12 00 a1 01 61 ff": true,
		"83 14 f9 3c00 a0": true, "83 14 00 bc": true, "83 14 00 ff": true, "83 14 00 bb 8000000000000000": true,
		"83 12 00 a1 01 7b 8000000000000000 61": true, "83 18 64 00 bf ff": true,
		"83 14 00 b8 40" + specPairs(64): false, "83 14 00 b8 41" + specPairs(65): true,
		"83 14 00 a1 18 63 99 0400" + strings.Repeat("00", 1024): false, "83 14 00 a1 18 63 99 0401" + strings.Repeat("00", 1025): true,
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		m, err := tables.message(b)
		got, refused := verdict(t, b)
		if (err != nil) != malformed || refused != malformed || !malformed && !bytes.Equal(got, m.encode()) {
			t.Errorf("%s: malformed %t, by the doc %v", text, refused, err)
		}
	}
}

// specPairs are so many pairs of a map, in hexadecimal.
func specPairs(n int) (text string) {
	for i := range n {
		text += fmt.Sprintf("19%04x00", 1000+i)
	}
	return text
}

// The digest of selectors is that of the list as it stands in a Narrow.
func TestSpecDigest(t *testing.T) {
	b := specVectors(t, "messages.txt")["Narrow"]
	e, err := control.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := specReadTables().message(b)
	if err != nil {
		t.Fatal(err)
	}
	want := specDigestOf(m.body.(specMap)[1].value)
	if got := control.DigestSelectors(e.Message.(*control.Narrow).Selectors); !bytes.Equal(got[:], want) {
		t.Errorf("digest %x, by the doc %x", got, want)
	}
	if packet.MaxSelectors != 512 || control.MaxList != 1024 {
		t.Error("the limits are not those of the doc")
	}
}

// The limits that the doc names are the code's.
func TestSpecLimits(t *testing.T) {
	text := strings.Join(strings.Fields(strings.ReplaceAll(strings.Join(specSection("Malformed"), " "), "//", " ")), " ")
	for _, want := range []string{
		fmt.Sprintf("more than %d Addresses in a Reach, %d Candidates, %d Sessions in a Revoke, %[3]d Opened or Closed in a "+
			"SessionReport, %[1]d KDCs in a Config, %[4]d selectors", control.MaxAddresses, control.MaxCandidates,
			control.MaxReported, packet.MaxSelectors),
		fmt.Sprintf("lists over %d,%03d (MaxList)", control.MaxList/1000, control.MaxList%1000),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the doc does not say %q", want)
		}
	}
}

// The figure of the exchange shows every field that its messages have, but what it leaves out on purpose.
func TestExchangeFigure(t *testing.T) {
	names := map[string]string{
		"flow": "Flow", "na": "Na", "pub": "Pub", "id": "Session", "A": "A", "B": "B", "K": "K", "enc": "Enc", "order": "Order",
		"terms": "Terms",
	}
	omitted := map[string]bool{"Peer": true, "AsOf": true, "Suite": true, "Candidates": true}
	tables, shown := specReadTables(), 0
	for _, m := range regexp.MustCompile(`(Key\w+)\(([^)]+)\)`).FindAllStringSubmatch(strings.Join(specSection("The four steps"), "\n"), -1) {
		shown++
		there := map[string]string{}
		for _, f := range tables[m[1]].fields {
			there[f.name] = f.typ
		}
		for part := range strings.SplitSeq(m[2], ", ") {
			side, isSPI := strings.CutPrefix(part, "spi")
			switch {
			case isSPI && there["SPI"] != "": // its sender's
				delete(there, "SPI")
			case isSPI && tables[m[1]].has(side, "Party"): // in the Party
			case names[part] != "" && there[names[part]] != "":
				delete(there, names[part])
			default:
				t.Errorf("%s has no %s", m[1], part)
			}
		}
		for name := range there {
			if !omitted[name] {
				t.Errorf("%s has %s, which the figure does not show", m[1], name)
			}
		}
	}
	if shown != 4 {
		t.Errorf("the figure shows %d messages", shown)
	}
}

func (t specTable) has(name, typ string) bool { return slices.Contains(t.fields, specField{name, typ}) }
