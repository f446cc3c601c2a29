package control

import (
	"fmt"
	"log/slog"
)

// KeyBytes is key material inside a message: a byte string on the wire, and unprintable everywhere else. A []byte
// assigns to it; whoever holds the message clears it.
type KeyBytes []byte

const redacted = "[key]"

// Format and LogValue show that there is a key, never which.
func (KeyBytes) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }
func (KeyBytes) LogValue() slog.Value       { return slog.StringValue(redacted) }

// Format shows which message it is. fmt forgets the methods of fields once a verb does not fit, as %s does not.
func (m KeyOffer) Format(f fmt.State, _ rune)   { fmt.Fprintf(f, "offer of session %s", m.Session) }
func (m KeyGrant) Format(f fmt.State, _ rune)   { fmt.Fprintf(f, "grant of session %s", m.Session) }
func (m RotateKey) Format(f fmt.State, _ rune)  { fmt.Fprintf(f, "permanent key %s", m.KeyID) }
func (m EnrolGrant) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "enrolment of %s", m.Name) }

// MarshalJSON keeps the key out of logs and admin replies: what is to carry a key does so by name.
func (KeyBytes) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
