//go:build !nocrypto

package packet

import (
	"crypto/aes"
	"crypto/cipher"

	"golang.org/x/crypto/chacha20poly1305"
)

// Encrypts says whether this program seals what it sends. It is false in none but a build for measurements
// (nocrypto.go).
const Encrypts = true

// newCipher makes the cipher of a suite that is known.
func newCipher(suite Suite, key []byte) (cipher.AEAD, error) {
	if suite == ChaCha20Poly1305 {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
