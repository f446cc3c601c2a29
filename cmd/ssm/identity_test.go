package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// TestUpdateIdentity: an SSM that runs writes over earlier states of its own identity, and over nothing else.
func TestUpdateIdentity(t *testing.T) {
	key := func() control.PermanentKey { return control.PermanentKey{ID: control.NewKeyID(), Key: secret.NewKey()} }
	old, next, other := key(), key(), key()
	with := func(current, next control.PermanentKey) control.Identity {
		return control.Identity{Name: "ana", KeyID: current.ID, Key: current.Key, Next: next, KDCs: []string{"kdc:7600"}}
	}
	none := control.PermanentKey{}
	for _, tt := range []struct {
		name    string
		was, id control.Identity
		refused bool
	}{
		{"other KDCs", with(old, none), with(old, none), false},
		{"a next key", with(old, none), with(old, next), false},
		{"another next key", with(old, other), with(old, next), false},
		{"the next key in use", with(old, next), with(next, none), false},
		{"the next key in use, and again one", with(old, next), with(next, other), false},
		{"enrolled anew", with(other, none), with(old, next), true},
		{"enrolled anew after a rotation", with(other, none), with(next, none), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), identityName)
			if err := saveIdentity(path, tt.was); err != nil {
				t.Fatal(err)
			}
			if err := updateIdentity(path, tt.id); errors.Is(err, errReplaced) != tt.refused || (err == nil) == tt.refused {
				t.Fatalf("error %v, want a refusal: %t", err, tt.refused)
			}
			want := tt.id
			if tt.refused {
				want = tt.was
			}
			got, err := readIdentity(path)
			if err != nil || got.KeyID != want.KeyID || got.Next.ID != want.Next.ID || !got.Key.Equal(want.Key) {
				t.Errorf("it holds %s and %s, %v", got.KeyID, got.Next.ID, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
	path := filepath.Join(t.TempDir(), identityName)
	if err := updateIdentity(path, with(old, next)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where the identity was removed: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it came back")
	}
}
