package control

import (
	"hash"
	"testing"

	"github.com/flynn/noise"

	"ssmnet/packet/secret"
)

// hashing counts the hashes of a handshake: its work, but for Diffie-Hellman.
type hashing struct {
	noise.HashFunc
	n int
}

func (h *hashing) Hash() hash.Hash {
	h.n++
	return h.HashFunc.Hash()
}

// TestUnknownKeyCostsTheSame: by how long the KDC works on an opening it does not tell whether it knows the key id.
func TestUnknownKeyCostsTheSame(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	work := func(as KeyID) int {
		s := &stub{}
		s.in.Reset(newHandmade(t, nil, as, secret.NewKey(), nil).opening)
		count, old := &hashing{HashFunc: noise.HashSHA256}, cipherSuite
		cipherSuite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, count)
		defer func() { cipherSuite = old }()
		if _, _, err := answer(s, knows(id, key)); err != ErrHandshake {
			t.Fatal(err)
		}
		return count.n
	}
	if wrong, unknown := work(id), work(NewKeyID()); wrong != unknown || wrong == 0 {
		t.Errorf("%d hashes for a wrong key, %d for an unknown id", wrong, unknown)
	}
}
