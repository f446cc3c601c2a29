package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// The key that must show nowhere, in any spelling.
var shown = []byte("a permanent key, 32 bytes long!!")

func newShown(t testing.TB) Key {
	t.Helper()
	k, err := KeyFrom(shown)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// spelled returns how output shows part of the key, or "".
func spelled(output []byte) string {
	part := shown[:8]
	numbers := func(verb, separator string) string {
		words := make([]string, len(part))
		for i, b := range part {
			words[i] = fmt.Sprintf(verb, b)
		}
		return strings.Join(words, separator)
	}
	lower := strings.ToLower(string(output))
	for _, s := range []string{
		string(part), hex.EncodeToString(part), numbers("%d", " "), numbers("%d", ","), numbers("%02x", " "),
		numbers("0x%x", ", "), numbers("0x%x", " "), numbers("%o", " "), numbers("%b", " "),
		base64.StdEncoding.EncodeToString(shown)[:8], base64.URLEncoding.EncodeToString(shown)[:8],
	} {
		if strings.Contains(lower, strings.ToLower(s)) {
			return s
		}
	}
	return ""
}

type exported struct {
	Name string
	Key  Key
}

type unexported struct{ key Key }

type embedded struct{ Key }

// carriers holds a key in every way that a program may pass one to a printer or an encoder by mistake.
func carriers(k Key) map[string]any {
	return map[string]any{
		"key": k, "pointer": &k, "struct": exported{"a", k}, "struct pointer": &exported{"a", k},
		"unexported": unexported{k}, "unexported pointer": &unexported{k}, "nested": []any{&exported{"a", k}},
		"slice": []Key{k}, "array": [1]Key{k}, "map": map[string]Key{"a": k}, "pointers": []*Key{&k},
		"embedded": embedded{k}, "error": fmt.Errorf("with %v", k),
	}
}

func TestSpelled(t *testing.T) { // the positive control
	for _, format := range []string{"%s", "%x", "% x", "%X", "%v", "%#v", "%q", "%o", "%b"} {
		if out := fmt.Sprintf(format, shown); spelled([]byte(out)) == "" {
			t.Errorf("not found: %s", out)
		}
	}
	for _, encode := range encoders {
		out, err := encode.f(exportedBytes{shown})
		if err != nil || spelled(out) == "" {
			t.Errorf("%s: not found (%v): %q", encode.name, err, out)
		}
	}
}

type exportedBytes struct{ Key []byte }

func TestNotPrinted(t *testing.T) {
	k := newShown(t)
	for name, v := range carriers(k) {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspwy!" {
			for _, flags := range []string{"", "+", "#", " ", "-80", "080", "+#", ".3", "# "} {
				format := "%" + flags + string(verb)
				if out := fmt.Sprintf(format, v); spelled([]byte(out)) != "" {
					t.Errorf("%s: %s shows the key: %s", name, format, out)
				}
			}
		}
		if out := fmt.Sprint(v) + fmt.Sprintln(v); spelled([]byte(out)) != "" {
			t.Errorf("%s: shown: %s", name, out)
		}
	}
	for _, format := range []string{"%v", "%s", "%x", "%d", "%q", "%#v", "%+v"} {
		if out := fmt.Sprintf(format, k); out != redacted {
			t.Errorf("%s gives %q", format, out)
		}
	}
}

var encoders = []struct {
	name string
	f    func(any) ([]byte, error)
}{
	{"json", json.Marshal},
	{"xml", xml.Marshal},
	{"cbor", cbor.Marshal},
	{"gob", func(v any) ([]byte, error) {
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(v)
		return b.Bytes(), err
	}},
}

func TestNotEncoded(t *testing.T) {
	k := newShown(t)
	for name, v := range carriers(k) {
		for _, encode := range encoders {
			out, err := encode.f(v)
			if spelled(out) != "" || err != nil && spelled([]byte(err.Error())) != "" {
				t.Errorf("%s of %s shows the key: %q, %v", encode.name, name, out, err)
			}
		}
	}
	// What would carry a key away unnoticed is an error.
	for _, encode := range encoders {
		for name, v := range map[string]any{"key": k, "pointer": &k, "struct": exported{"a", k}, "slice": []Key{k}} {
			if out, err := encode.f(v); err == nil {
				t.Errorf("%s of %s is no error: %q", encode.name, name, out)
			}
		}
	}
}

func TestNotLogged(t *testing.T) {
	k := newShown(t)
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		for name, v := range carriers(k) {
			slog.New(h).Info("carrier", "name", name, "value", v)
		}
	}
	if s := spelled(b.Bytes()); s != "" {
		t.Errorf("the log shows %s", s)
	}
	if n := strings.Count(b.String(), "carrier"); n < 2*len(carriers(k)) {
		t.Errorf("%d lines logged", n)
	}
}

func TestKey(t *testing.T) {
	a, b := NewKey(), NewKey()
	same, err := KeyFrom(a.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var none Key
	for _, c := range []struct {
		name string
		x, y Key
		want bool
	}{{"same bytes", a, same, true}, {"itself", a, a, true}, {"two keys", a, b, false}, {"a key and none", a, none, false},
		{"none and a key", none, a, false}, {"none", none, none, false}} {
		if c.x.Equal(c.y) != c.want {
			t.Errorf("%s: Equal is not %v", c.name, c.want)
		}
	}
	if a.IsZero() || !none.IsZero() {
		t.Error("IsZero")
	}
	for _, n := range []int{0, Size - 1, Size + 1} {
		if _, err := KeyFrom(make([]byte, n)); !errors.Is(err, errSize) {
			t.Errorf("KeyFrom of %d bytes: %v", n, err)
		}
	}
}

func TestKeyFromCopies(t *testing.T) {
	b := bytes.Clone(shown)
	k, err := KeyFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if !bytes.Equal(k.Bytes(), shown) {
		t.Error("the key changed with the bytes it was made from")
	}
}

func TestDestroy(t *testing.T) {
	k := newShown(t)
	memory, alias := k.Bytes(), k
	k.Destroy()
	k.Destroy() // again does no harm
	if !k.IsZero() {
		t.Error("there still is a key")
	}
	for _, b := range [][]byte{memory, alias.Bytes()} {
		if !bytes.Equal(b, make([]byte, Size)) {
			t.Error("the key's memory was not overwritten")
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a destroyed key was used")
		}
	}()
	k.Bytes()
}

func TestDo(t *testing.T) {
	ran := false
	Do(func() { ran = true })
	if !ran {
		t.Error("Do did not run f")
	}
}
