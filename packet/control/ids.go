package control

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// SessionID names a session to both peers and the KDC.
type SessionID [16]byte

// KeyID names a permanent key or a token; it is random and changes with the key.
type KeyID [8]byte

// Boot is the random id of one run of an SSM.
type Boot [16]byte

// Nonce is na: it ties a grant to the attempt that asked for it.
type Nonce [16]byte

// Digest is the first half of a SHA-256: it names a list of selectors in a report.
type Digest [16]byte

func NewSessionID() (id SessionID) { rand.Read(id[:]); return }
func NewKeyID() (id KeyID)         { rand.Read(id[:]); return }
func NewBoot() (b Boot)            { rand.Read(b[:]); return }

func (id SessionID) String() string { return hex.EncodeToString(id[:]) }
func (id KeyID) String() string     { return hex.EncodeToString(id[:]) }
func (b Boot) String() string       { return hex.EncodeToString(b[:]) }

// ParseSessionID reads what String writes.
func ParseSessionID(s string) (id SessionID, err error) {
	err = fixedHex(id[:], s)
	return id, err
}

// Compare orders sessions of equal order: both sides send on the greatest.
func (id SessionID) Compare(o SessionID) int { return cmp.Compare(string(id[:]), string(o[:])) }

func (id SessionID) MarshalText() ([]byte, error)  { return []byte(id.String()), nil }
func (id *SessionID) UnmarshalText(b []byte) error { return fixedHex(id[:], string(b)) }
func (id KeyID) MarshalText() ([]byte, error)      { return []byte(id.String()), nil }
func (id *KeyID) UnmarshalText(b []byte) error     { return fixedHex(id[:], string(b)) }
func (b Boot) MarshalText() ([]byte, error)        { return []byte(b.String()), nil }
func (b *Boot) UnmarshalText(from []byte) error    { return fixedHex(b[:], string(from)) }

// They are CBOR byte strings of exactly their length. The codec alone would pad and cut, and take an array of numbers.
func (id *SessionID) UnmarshalCBOR(b []byte) error { return fixedCBOR(id[:], b) }
func (id *KeyID) UnmarshalCBOR(b []byte) error     { return fixedCBOR(id[:], b) }
func (b *Boot) UnmarshalCBOR(from []byte) error    { return fixedCBOR(b[:], from) }
func (n *Nonce) UnmarshalCBOR(b []byte) error      { return fixedCBOR(n[:], b) }
func (d *Digest) UnmarshalCBOR(b []byte) error     { return fixedCBOR(d[:], b) }

// fixedCBOR reads the one encoding of a byte string of the identifier's length, which is under 24 (RFC 8949, section 3).
func fixedCBOR(dst, item []byte) error {
	if len(item) == 0 || item[0] != 0x40|byte(len(dst)) {
		return fmt.Errorf("identifier is not a byte string of %d bytes", len(dst))
	}
	return fixed(dst, item[1:])
}

func fixed(dst, src []byte) error {
	if len(src) != len(dst) {
		return fmt.Errorf("identifier of %d bytes, want %d", len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

func fixedHex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil {
		return fmt.Errorf("identifier %q is not hexadecimal", s)
	}
	return fixed(dst, b)
}
