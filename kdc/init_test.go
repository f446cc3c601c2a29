package kdc

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func initialised(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kdc")
	if _, err := Init(dir, InitOptions{Addresses: []string{"192.0.2.1"}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "kdc")
	made, err := Init(dir, InitOptions{Addresses: []string{"192.0.2.1", "[2001:db8::1]:9", "2001:db8::2", "kdc.example"}})
	if err != nil {
		t.Fatal(err)
	}
	read, err := LoadConfig(filepath.Join(dir, configFile))
	if err != nil || !reflect.DeepEqual(read, made) {
		t.Errorf("read %+v (%v), made %+v", read, err, made)
	}
	want := []string{"192.0.2.1:7600", "[2001:db8::1]:9", "[2001:db8::2]:7600", "kdc.example:7600"}
	if !reflect.DeepEqual(read.Addresses, want) {
		t.Errorf("addresses %v, want %v", read.Addresses, want)
	}
	if o := read.Overlays; len(o) != 2 || o[0] != netip.MustParsePrefix("100.80.0.0/12") || o[1].Bits() != 48 ||
		!netip.MustParsePrefix("fd00::/8").Contains(o[1].Addr()) {
		t.Errorf("overlays %v", o)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, keyFile: 0o600, storeFile: 0o600, configFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	if _, err := Init(dir, InitOptions{Addresses: []string{"192.0.2.1"}}); !errors.Is(err, ErrExists) {
		t.Errorf("init again: %v", err)
	}
}

func TestInitRefuses(t *testing.T) {
	for name, o := range map[string]InitOptions{
		"no address":        {},
		"bad address":       {Addresses: []string{"a:b:c:d:7600x"}},
		"bad listen":        {Addresses: []string{"192.0.2.1"}, Listen: []string{"7600"}},
		"overlay with bits": {Addresses: []string{"192.0.2.1"}, Overlays: subnetsOf("10.0.0.1/8")},
		"overlapping": {Addresses: []string{"192.0.2.1"}, Overlays: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"),
		}},
		"tiny": {Addresses: []string{"192.0.2.1"}, Overlays: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/31")}},
	} {
		dir := filepath.Join(t.TempDir(), "kdc")
		if _, err := Init(dir, o); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "\n") ||
			strings.Contains(err.Error(), "column") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was made", name)
		}
	}
}

// TestInitFails: what stands in the way is named.
func TestInitFails(t *testing.T) {
	o := InitOptions{Addresses: []string{"192.0.2.1"}}
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := Init(filepath.Join(file, "kdc"), o); err == nil || !strings.Contains(err.Error(), "state directory: ") {
		t.Errorf("below a file: %v", err)
	}
}

// TestInitCutShort: what an init that was killed has left is not overwritten, for it looks like a KDC that has lost its
// configuration; it is told apart from one that can be served.
func TestInitCutShort(t *testing.T) {
	for _, left := range []string{keyFile, storeFile} {
		dir := t.TempDir()
		path := filepath.Join(dir, left)
		check(t, os.WriteFile(path, []byte("precious"), 0o600))
		_, err := Init(dir, InitOptions{Addresses: []string{"192.0.2.1"}})
		want := "already initialised: " + path + " exists without kdc.toml: put that back or, where a kdc init that was " +
			"cut short has left it, remove what is in " + dir
		if !errors.Is(err, ErrExists) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if b, err := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("%s has become %q, %v", left, b, err)
		}
	}
}
