package kdc

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/secret"
)

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
		"state of another version": {func(t *testing.T, dir string) {
			overwrite(t, dir, store.Put(metaKey, []byte(`{"schema":"ssmnet.kdc/v0"}`)))
		}, nil, "holds no KDC of this version"},
		"record that is none": {func(t *testing.T, dir string) { overwrite(t, dir, store.Put(peerKey("a"), []byte("{"))) },
			nil, "restore a backup"},
		"policy gone": {func(t *testing.T, dir string) { overwrite(t, dir, put(headKey, headRecord{7})) },
			store.ErrNotFound, "policy revision 7"},
		"policy of another version": {func(t *testing.T, dir string) {
			overwrite(t, dir, put(headKey, headRecord{7}), put(policyKey(7), policyRecord{Text: []byte("{}")}))
		}, nil, "policy revision 7, once applied, does not parse"},
		"audit record elsewhere": {func(t *testing.T, dir string) {
			check(t, os.Symlink("/dev/null", filepath.Join(dir, auditFile)))
		}, nil, "audit "},
		"audit record that is none": {func(t *testing.T, dir string) {
			check(t, os.Mkdir(filepath.Join(dir, auditFile), 0o700))
		}, nil, "audit "},
		"configuration that is none": {func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, configFile)))
			check(t, os.Mkdir(filepath.Join(dir, configFile), 0o700))
		}, nil, "configuration read "},
		"configuration out of reach": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, configFile)
			check(t, os.Remove(path))
			check(t, os.Symlink(path, path))
		}, nil, "configuration stat "},
		"endless configuration": {func(t *testing.T, dir string) {
			check(t, os.Truncate(filepath.Join(dir, configFile), maxConfig+1))
		}, nil, "too long"},
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

// overwrite changes the store of a directory as no KDC of this version would.
func overwrite(t *testing.T, dir string, ops ...store.Op) {
	t.Helper()
	s, err := store.Open(filepath.Join(dir, storeFile))
	check(t, err)
	_, err = s.Apply(t.Context(), nil, ops)
	check(t, errors.Join(err, s.Close()))
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
