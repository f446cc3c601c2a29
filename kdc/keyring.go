package kdc

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// keyring seals permanent keys and tokens for the store: AES-256-GCM under the store key, with a random nonce in front
// and the peer's name and the key id as additional data, so that no sealed key passes for another's.
type keyring struct{ aead cipher.AEAD }

func newKeyring(key secret.Key) (r keyring, err error) {
	secret.Do(func() {
		var block cipher.Block
		if block, err = aes.NewCipher(key.Bytes()); err == nil {
			r.aead, err = cipher.NewGCMWithRandomNonce(block)
		}
	})
	return r, err
}

// bind is the additional data. Names have no zero byte.
func bind(name string, id control.KeyID) []byte { return append(append([]byte(name), 0), id[:]...) }

func (r keyring) seal(name string, id control.KeyID, key secret.Key) []byte {
	return r.aead.Seal(nil, nil, key.Bytes(), bind(name, id))
}

// open gives a key that the caller destroys.
func (r keyring) open(name string, id control.KeyID, sealed []byte) (secret.Key, error) {
	var plain [secret.Size]byte
	defer clear(plain[:])
	b, err := r.aead.Open(plain[:0], nil, sealed, bind(name, id))
	if err != nil {
		return secret.Key{}, fmt.Errorf("peer %s: %w", name, errSealed)
	}
	return secret.KeyFrom(b)
}

// check is a value that opens under this store key alone. It is bound to a name that no peer can have.
func (r keyring) check() []byte {
	k := secret.NewKey()
	defer k.Destroy()
	return r.seal("", control.KeyID{}, k)
}

func (r keyring) made(check []byte) bool {
	k, err := r.open("", control.KeyID{}, check)
	k.Destroy()
	return err == nil
}
