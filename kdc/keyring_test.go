package kdc

import (
	"errors"
	"testing"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// TestSealedKeysAreBound: what is sealed for one peer and key id opens as no other's.
func TestSealedKeysAreBound(t *testing.T) {
	ring, err := newKeyring(secret.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	key, id := secret.NewKey(), control.NewKeyID()
	sealed := ring.seal("a", id, key)
	if got, err := ring.open("a", id, sealed); err != nil || !got.Equal(key) {
		t.Fatalf("its own does not open: %v", err)
	}
	for _, as := range []struct {
		name string
		id   control.KeyID
	}{{"b", id}, {"", id}, {"a", control.NewKeyID()}, {"a", control.KeyID{}}} {
		if _, err := ring.open(as.name, as.id, sealed); !errors.Is(err, errSealed) {
			t.Errorf("opens as %q, %s: %v", as.name, as.id, err)
		}
	}
}
