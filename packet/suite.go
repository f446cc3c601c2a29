package packet

import (
	"crypto/cipher"
	"fmt"

	"golang.org/x/sys/cpu"

	"ssmnet/packet/secret"
)

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

// Known says whether this version has the suite.
func (s Suite) Known() bool { return s == AES256GCM || s == ChaCha20Poly1305 }

// HasAES says whether this CPU has the instructions that make AES-GCM fast and constant in time. Fields of other
// architectures than the one running are false.
func HasAES() bool {
	amd64 := cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3
	arm64 := cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	s390x := cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasGHASH
	return amd64 || arm64 || s390x || cpu.PPC64.IsPOWER8
}

// aead gives an interface value an address, for an atomic pointer.
type aead struct{ cipher.AEAD }

// newAEAD makes the suite's cipher where what the construction leaves behind is erased.
func newAEAD(suite Suite, key secret.Key) (*aead, error) {
	if key.IsZero() {
		return nil, ErrDestroyed
	}
	var made cipher.AEAD
	var err error
	secret.Do(func() {
		if !suite.Known() {
			err = fmt.Errorf("%w: %s", errSuite, suite)
			return
		}
		made, err = newCipher(suite, key.Bytes())
	})
	if err != nil {
		return nil, err
	}
	return &aead{made}, nil
}
