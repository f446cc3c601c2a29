package packet

import "fmt"

// Suite is an AEAD for frames.
type Suite uint8

const (
	AES256GCM        Suite = 1 // where both CPUs have AES instructions
	ChaCha20Poly1305 Suite = 2 // elsewhere
)

func (s Suite) String() string {
	switch s {
	case AES256GCM:
		return "aes-256-gcm"
	case ChaCha20Poly1305:
		return "chacha20-poly1305"
	}
	return fmt.Sprintf("suite-%d", uint8(s))
}
