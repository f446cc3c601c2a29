//go:build nocrypto

package packet

import (
	"bytes"
	"errors"
	"testing"

	"ssmnet/packet/secret"
)

// TestNoCrypto: frames have their lengths and their windows, and nothing is hidden.
func TestNoCrypto(t *testing.T) {
	for _, suite := range suites {
		s, o := pair(t, suite, secret.NewKey())
		frame := mustSeal(t, s, []byte("payload"))
		if Encrypts || !bytes.Equal(frame[HeaderLen:], append([]byte("payload"), make([]byte, TagLen)...)) {
			t.Errorf("%x", frame)
		}
		if got, err := open(o, frame); err != nil || string(got) != "payload" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := open(o, frame); !errors.Is(err, ErrReplay) {
			t.Errorf("again: %v", err)
		}
	}
}
