// Package secret holds keys so that they are hard to spill: a Key cannot be printed, encoded or compared with ==, it is
// destroyed by name, and it rests only in files that their owner alone can read.
//
// # What is erased, and when
//
// Destroy overwrites a Key at once. What ciphers, key derivation and handshakes made of it was allocated inside Do, and
// is erased by the garbage collection that finds it unreachable: an Eraser brings that about within about a second. What
// passes a key on without Do (encoders, message buffers, files) does so in memory of its own, which it overwrites. So,
// in a binary built to erase (Erases), two seconds after a session has ended none of its keys can be read out of either
// SSM, as it was or as a cipher's schedule, and so with what the keys were derived from, with a KDC's K, and with the
// permanent keys that a KDC opens for a handshake. A test reads all memory of the released programs for it.
//
// It is beyond a program's reach, or would cost every packet something, to erase
//
//   - what a cipher leaves in the registers of the thread that used it last, until that thread uses them for another
//     key, and what a signal, such as the runtime's own for preemption, saves of them on the thread's signal stack until
//     the next: round keys of a destroyed session may be among it;
//   - what AES-GCM leaves on the stack of the goroutine that sealed or opened last, until it does so again: counter
//     blocks under the first half of the key, from which that half follows, but no more;
//   - texts: a token in a command line, and tokens and identities on their way through `kdc peer add`, whose process has
//     the store key that opens them all.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Size is the length of every key in bytes (256 bits).
const Size = 32

// Key is a 256-bit key. Copies share the same memory, so Destroy ends them all. The zero Key holds nothing.
type Key struct {
	// memory leads to the key. It is a function because nothing sees through one: fmt ignores the methods of a field
	// that is not exported, and with a wrong verb ("%s") prints what its pointers lead to. It also forbids ==.
	memory func() *[Size]byte
}

func newKey() Key {
	b := new([Size]byte)
	return Key{memory: func() *[Size]byte { return b }}
}

// NewKey makes a random key.
func NewKey() Key {
	k := newKey()
	rand.Read(k.Bytes()) // never fails (crypto/rand)
	return k
}

// KeyFrom copies b, which the caller still owns and should clear.
func KeyFrom(b []byte) (Key, error) {
	if len(b) != Size {
		return Key{}, errSize
	}
	k := newKey()
	copy(k.Bytes(), b)
	return k, nil
}

// Bytes borrows the key's memory until Destroy. It panics where there is no key: using a destroyed key is a bug.
func (k Key) Bytes() []byte {
	if k.memory == nil {
		panic("secret: use of an empty key")
	}
	return k.memory()[:]
}

// IsZero says that there is no key.
func (k Key) IsZero() bool { return k.memory == nil }

// Equal compares in constant time.
func (k Key) Equal(o Key) bool {
	return !k.IsZero() && !o.IsZero() && subtle.ConstantTimeCompare(k.Bytes(), o.Bytes()) == 1
}

// Destroy overwrites the key and lets go of it.
func (k *Key) Destroy() {
	if k.memory != nil {
		clear(k.Bytes())
		k.memory = nil
	}
}

const redacted = "[key]"

// Format shows that there is a key, never which, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// MarshalText refuses, and so do all encoders: what is to carry a key says so with Bytes.
func (Key) MarshalText() ([]byte, error) { return nil, errors.New("secret: a key is not encoded") }

func (k Key) MarshalJSON() ([]byte, error)   { return k.MarshalText() }
func (k Key) MarshalBinary() ([]byte, error) { return k.MarshalText() } // CBOR and gob
