package packet

import (
	"fmt"

	"golang.org/x/sys/cpu"
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

// HasAES says whether this CPU has the instructions that make AES-GCM fast and constant in time. Fields of other
// architectures than the one running are false.
func HasAES() bool {
	amd64 := cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3
	arm64 := cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	s390x := cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasGHASH
	return amd64 || arm64 || s390x || cpu.PPC64.IsPOWER8
}

// BestSuite is the one this CPU prefers. A session uses AES256GCM where both ends do.
func BestSuite() Suite {
	if HasAES() {
		return AES256GCM
	}
	return ChaCha20Poly1305
}
