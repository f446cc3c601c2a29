package control

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ssmnet/packet/secret"
)

func identityFixture(t testing.TB) Identity {
	t.Helper()
	k, err := secret.KeyFrom(filled(32, 0x41))
	if err != nil {
		t.Fatal(err)
	}
	return Identity{Name: "a", KeyID: partyA.KeyID, Key: k, KDCs: []string{"kdc1.example:7600", "[2001:db8::1]:7600"}}
}

// rotatingFixture has a next key as well.
func rotatingFixture(t testing.TB) Identity {
	t.Helper()
	id := identityFixture(t)
	k, err := secret.KeyFrom(filled(32, 0x81))
	if err != nil {
		t.Fatal(err)
	}
	id.Next = PermanentKey{KeyID(filled(8, 0xc0)), k}
	return id
}

// spills says whether text holds any eight bytes of key, as they are, in hexadecimal or in base64.
func spills(text string, key []byte) bool {
	for i := range len(key) - 8 {
		part := key[i : i+8]
		if strings.Contains(text, string(part)) || strings.Contains(strings.ToLower(text), hex.EncodeToString(part)) {
			return true
		}
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for s := e.EncodeToString(key); len(s) > 8; s = s[1:] {
			if strings.Contains(text, s[:8]) {
				return true
			}
		}
	}
	return false
}

func same(a, b Identity) bool {
	return a.Name == b.Name && a.KeyID == b.KeyID && a.Key.Equal(b.Key) && reflect.DeepEqual(a.KDCs, b.KDCs) &&
		a.Next.ID == b.Next.ID && (a.Next.IsZero() && b.Next.IsZero() || a.Next.Key.Equal(b.Next.Key))
}

func TestIdentityRoundTrips(t *testing.T) {
	for _, id := range []Identity{identityFixture(t), rotatingFixture(t)} {
		b, err := id.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseIdentity(b)
		if err != nil || !same(got, id) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// Destroying an identity leaves neither key; a copy made before is another key's memory.
func TestDestroyedIdentity(t *testing.T) {
	id := rotatingFixture(t)
	kept, key, next := id.Next.Copy(), id.Key.Bytes(), id.Next.Key.Bytes()
	id.Destroy()
	if !id.Key.IsZero() || !id.Next.IsZero() || !bytes.Equal(append(key, next...), make([]byte, 64)) {
		t.Errorf("left: %x %x", key, next)
	}
	if !bytes.Equal(kept.Key.Bytes(), filled(32, 0x81)) {
		t.Error("the copy is gone too")
	}
	if c := (PermanentKey{}).Copy(); !c.IsZero() {
		t.Error("a copy of nothing")
	}
}

func TestTokenRoundTrips(t *testing.T) {
	token := Token(identityFixture(t))
	s, err := token.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{s, "  " + s + "\n"} {
		got, err := ParseToken(text)
		if err != nil || !same(Identity(got), Identity(token)) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// The files in testdata each have one fault, which their name tells; whole.* have none.
func TestIdentityFiles(t *testing.T) {
	checkFiles(t, "testdata/identity/*.json", identityFixture(t), ParseIdentity)
}

func TestRotatingIdentityFiles(t *testing.T) {
	checkFiles(t, "testdata/rotating/*.json", rotatingFixture(t), ParseIdentity)
}

func TestTokenFiles(t *testing.T) {
	checkFiles(t, "testdata/token/*.txt", identityFixture(t), func(b []byte) (Identity, error) {
		token, err := ParseToken(string(b))
		if err != nil && !errors.Is(err, errToken) {
			t.Errorf("a fault told apart: %v", err)
		}
		return Identity(token), err
	})
}

func checkFiles(t *testing.T, pattern string, want Identity, parse func([]byte) (Identity, error)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files match %s, %v", len(files), pattern, err)
	}
	whole := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parse(b)
		if strings.HasPrefix(filepath.Base(f), "whole.") {
			whole++
			if err != nil || !same(got, want) {
				t.Errorf("%s: %+v, %v", f, got, err)
			}
			continue
		}
		if err == nil || !reflect.DeepEqual(got, Identity{}) {
			t.Errorf("%s was taken", f)
		} else if spills(err.Error(), filled(32, 0x41)) || spills(err.Error(), filled(32, 0x81)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", f, err)
		}
	}
	if whole != 1 {
		t.Errorf("%d whole files", whole)
	}
}

// What a field must be is said in the words of whoever reads the file, not in those of the program.
func TestIdentityOfAnotherShape(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                  "it is not a JSON object, at line 1 column 1",
		`"identity"`:          "it is not a JSON object, at line 1 column 10",
		`{"name": 7}`:         `field "name" is not a string at line 1 column 10`,
		`{"kdcs": "a:1"}`:     `field "kdcs" is not a list of strings at line 1 column 14`,
		`{"kdcs": [1]}`:       `field "kdcs" is not a string at line 1 column 11`,
		`{"key": {"a": "b"}}`: `field "key" is not encoded text at line 1 column 9`,
		`{"key_id": 12}`:      `field "key_id" is not encoded text at line 1 column 13`,
	} {
		if _, err := ParseIdentity([]byte(text)); err == nil || err.Error() != "malformed identity: "+want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// An identity file broken at any byte, in several ways, either reads as another identity or says where and not what.
func TestBrokenIdentityTellsNoKey(t *testing.T) {
	whole, err := rotatingFixture(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	key, next := filled(32, 0x41), filled(32, 0x81)
	refused := 0
	try := func(i int, b []byte) {
		if _, err := ParseIdentity(b); err != nil {
			refused++
			if spills(err.Error(), key) || spills(err.Error(), next) {
				t.Errorf("broken at byte %d: %v", i, err)
			}
		}
	}
	for i := range whole {
		for _, c := range []byte{0, '"', '}', 'x', '\n', '\\', 0x80, whole[i] ^ 0x20} {
			b := bytes.Clone(whole)
			b[i] = c
			try(i, b)
		}
		try(i, whole[:i])
		try(i, append(bytes.Clone(whole[:i]), whole[i+1:]...))
		try(i, append(append(bytes.Clone(whole[:i]), '"'), whole[i:]...))
	}
	if refused < 5*len(whole) {
		t.Errorf("only %d broken files were refused", refused)
	}
}

// A token with any one character changed, left out or cut off is not a token: no part of it is read.
func TestBrokenTokens(t *testing.T) {
	s, err := Token(identityFixture(t)).Reveal()
	if err != nil {
		t.Fatal(err)
	}
	for i := range s {
		changed := byte('A')
		if s[i] == 'A' {
			changed = 'B'
		}
		for _, bad := range []string{s[:i] + string(changed) + s[i+1:], s[:i] + s[i+1:], s[:i], s + s[:i+1]} {
			if _, err := ParseToken(bad); err != errToken {
				t.Errorf("character %d: %v", i, err)
			}
		}
	}
	if _, err := ParseToken(tokenPrefix + strings.Repeat("A", MaxIdentity+1)); err != errToken {
		t.Errorf("over MaxIdentity: %v", err)
	}
}

func TestIdentityTooLong(t *testing.T) {
	b, err := identityFixture(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseIdentity(append(b, bytes.Repeat([]byte(" "), MaxIdentity)...)); err == nil {
		t.Error("taken")
	}
}

func TestCheckAddress(t *testing.T) {
	for s, want := range map[string]bool{
		"kdc:7600": true, "192.0.2.1:1": true, "[2001:db8::1]:65535": true,
		"": false, "kdc": false, ":7600": false, "kdc:": false, "kdc:0": false, "kdc:65536": false, "kdc:http": false,
		"2001:db8::1:7600": false, "kdc:-1": false, "kdc:+1": false,
		"[::1]:1": true, "127.0.0.1:1": true, "[::ffff:192.0.2.1]:1": true,
		"[fe80::1]:1": false, "[fe80::1%eth0]:1": false, "[fd77::1%eth0]:1": false, "169.254.1.1:1": false,
		"[ff02::1]:1": false, "224.0.0.1:1": false, "[::]:1": false, "0.0.0.0:1": false, "[fd77::1::]:1": false, "kdc%eth0:1": false,
	} {
		if err := CheckAddress(s); (err == nil) != want {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	seedFiles(f, "testdata/identity/*.json", func(b []byte) { f.Add(b) })
	seedFiles(f, "testdata/rotating/*.json", func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := ParseIdentity(b)
		if err != nil {
			return
		}
		again, err := id.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := ParseIdentity(again); err != nil || !same(id, second) {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	seedFiles(f, "testdata/token/*.txt", func(b []byte) { f.Add(string(b)) })
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseToken(s)
		if err != nil {
			if err != errToken {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := token.Reveal()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := ParseToken(again); err != nil || !same(Identity(token), Identity(second)) {
			t.Errorf("%v", err)
		}
	})
}

func seedFiles(f *testing.F, pattern string, add func([]byte)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds at %s, %v", pattern, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		add(b)
	}
}
