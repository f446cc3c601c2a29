package kdc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/secret"
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

func TestConfigFaults(t *testing.T) {
	const good = "listen = [\":7600\"]\naddresses = [\"a:1\"]\noverlays = [\"10.0.0.0/8\"]\n"
	if _, err := parseConfig([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"syntax":         {"listen = [\n", "line 1 column 11: "},
		"unknown field":  {good + "colour = 1\n", `line 4 column 1: unknown field "colour"`},
		"repeated field": {good + "listen = [\":1\"]\n", "line 4 column 1: "},
		"wrong type":     {"listen = 7\n", "line 1 column 10: listen is of a wrong type: "},
		"listen":         {"listen = [\":0x\"]\n", `line 1 column 11: `},
		"address":        {strings.Replace(good, "a:1", "a", 1), `line 2 column 14: `},
		"overlay":        {strings.Replace(good, "10.0.0.0/8", "10.0.0.1/8", 1), "line 3 column 13: "},
		"no prefix":      {strings.Replace(good, "10.0.0.0/8", "ten", 1), "line 3 column 13: "},
		"store":          {good + "store = \"paper\"\n", "line 4 column 9: "},
		"grace":          {good + "grace = \"soon\"\n", "line 4 column 9: "},
		"nothing":        {"", "listen is missing or empty"},
		"no overlay":     {strings.Replace(good, `"10.0.0.0/8"`, "", 1), "overlays lists 0 prefixes, want 1 to 8"},
	} {
		_, err := parseConfig([]byte(tc.text))
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("listen = [\":7600\"]\naddresses = [\"a:1\"]\noverlays = [\"10.0.0.0/8\"]\n"))
	f.Add([]byte("grace = \"1m\"\nstore = \"bolt\"\n[x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err != nil {
			return
		}
		again, err := parseConfig(c.text())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v is written as %s, which reads as %+v, %v", c, c.text(), again, err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(t *testing.T, dir string)
		want error
		text string
	}{
		"nothing there": {func(t *testing.T, dir string) { check(t, os.RemoveAll(dir)) }, ErrNotInitialised, "run kdc init"},
		"no store key": {func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, keyFile))) },
			ErrNotInitialised, "store.key is missing"},
		"loose store key": {func(t *testing.T, dir string) { check(t, os.Chmod(filepath.Join(dir, keyFile), 0o644)) },
			secret.ErrLoose, "chmod 600"},
		"short store key": {func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, keyFile), 31)) },
			nil, "is truncated: 31 bytes"},
		"another store key": {func(t *testing.T, dir string) {
			check(t, secret.WriteFile(filepath.Join(dir, keyFile), make([]byte, 32)))
		}, ErrStoreKey, "made with another store key"},
		"no store": {func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, storeFile))) },
			ErrNotInitialised, "store.db is missing"},
		"loose store": {func(t *testing.T, dir string) { check(t, os.Chmod(filepath.Join(dir, storeFile), 0o640)) },
			secret.ErrLoose, "chmod 600"},
		"truncated store": {func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, storeFile), 5000)) },
			store.ErrDamaged, "restore a backup"},
		"foreign store": {func(t *testing.T, dir string) {
			check(t, secret.WriteFile(filepath.Join(dir, storeFile), []byte(strings.Repeat("SQLite format 3", 1000))))
		}, store.ErrForeign, "check the path"},
		"empty store": {func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, storeFile)))
			s, err := store.Create(filepath.Join(dir, storeFile))
			check(t, errors.Join(err, s.Close()))
		}, nil, "holds no KDC"},
		"faulty configuration": {func(t *testing.T, dir string) {
			check(t, os.WriteFile(filepath.Join(dir, configFile), []byte("x = 1\n"), 0o600))
		}, nil, "kdc.toml: line 1 column 1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := initialised(t)
			tc.harm(t, dir)
			k, err := Open(dir, "", nil)
			if err == nil {
				k.Close()
				t.Fatal("opened")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%v is not %v", err, tc.want)
			}
			if !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not say %q on one line", err, tc.text)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOpenServes: a directory, a real listener, and a second KDC that is refused.
func TestOpenServes(t *testing.T) {
	dir := initialised(t)
	k, err := Open(dir, "", nil)
	check(t, err)
	if _, err := Open(dir, "", nil); !errors.Is(err, ErrInUse) {
		t.Errorf("a second KDC: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- k.Serve(ctx, l) }()
	e, err := addWhenServing(t, k)
	check(t, err)
	c := &center{KDC: k, t: t}
	id := tokenOf(t, e)
	nc, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	if _, err := c.redeemOn(nc, id); err != nil {
		t.Error(err)
	}
	if got := k.Status().Listen; len(got) != 1 || got[0] != l.Addr().String() {
		t.Errorf("listening on %v", got)
	}
	config := k.Config()
	config.Addresses = []string{"192.0.2.9:1"}
	check(t, k.Reload(config))
	config.Grace++
	if err := k.Reload(config); !errors.Is(err, ErrInvalid) {
		t.Errorf("reload of grace: %v", err)
	}
	cancel()
	check(t, <-served)
	check(t, k.Close())
	text, err := os.ReadFile(filepath.Join(dir, auditFile))
	check(t, err)
	for _, want := range []string{`"serve"`, `"peer.add"`, `"enrol"`, `"stop"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the audit record lacks %s", want)
		}
	}
	again, err := Open(dir, "", nil)
	check(t, err)
	check(t, again.Close())
}

func addWhenServing(t *testing.T, k *KDC) (Enrolment, error) {
	for {
		e, err := k.AddPeer(t.Context(), NewPeer{Name: "a", TokenTTL: time.Hour})
		if !errors.Is(err, ErrNotServing) {
			return e, err
		}
	}
}

// TestStoreKeyCredential: a store key that was taken out of the directory comes from the service manager; one that is in
// it counts.
func TestStoreKeyCredential(t *testing.T) {
	dir, given := t.TempDir(), t.TempDir()
	_, err := Init(dir, InitOptions{Addresses: []string{"192.0.2.1"}})
	check(t, err)
	t.Setenv("CREDENTIALS_DIRECTORY", given)
	check(t, secret.WriteFile(filepath.Join(given, keyFile), make([]byte, secret.Size)))
	opens := func() error {
		k, err := Open(dir, "", nil)
		if err == nil {
			check(t, k.Close())
		}
		return err
	}
	check(t, opens())
	check(t, os.Rename(filepath.Join(dir, keyFile), filepath.Join(given, keyFile)))
	check(t, opens())
	check(t, os.Chmod(filepath.Join(given, keyFile), 0o444))
	if err := opens(); !errors.Is(err, secret.ErrLoose) {
		t.Errorf("a credential that others may read: %v", err)
	}
	check(t, os.Remove(filepath.Join(given, keyFile)))
	if err := opens(); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("no key anywhere: %v", err)
	}
}
