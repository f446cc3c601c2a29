package control

import (
	"strings"
	"testing"
)

// TestIdentifiersInText: what an operator reads and writes is hexadecimal, of the whole identifier.
func TestIdentifiersInText(t *testing.T) {
	type identifier interface {
		MarshalText() ([]byte, error)
		UnmarshalText([]byte) error
	}
	id, key, boot := NewSessionID(), NewKeyID(), NewBoot()
	for _, c := range []struct {
		text       string
		made, read identifier
	}{
		{id.String(), &id, new(SessionID)}, {key.String(), &key, new(KeyID)}, {boot.String(), &boot, new(Boot)},
	} {
		if text, err := c.made.MarshalText(); err != nil || string(text) != c.text {
			t.Errorf("%T %s is %s, %v", c.made, c.text, text, err)
		}
		for _, wrong := range []string{"", c.text[2:], c.text + "00", "zz" + c.text[2:], c.text[1:]} {
			if err := c.read.UnmarshalText([]byte(wrong)); err == nil {
				t.Errorf("%T takes %q", c.read, wrong)
			}
		}
		if err := c.read.UnmarshalText([]byte(c.text)); err != nil {
			t.Errorf("%T: %v", c.read, err)
		}
		if again, err := c.read.MarshalText(); err != nil || string(again) != c.text {
			t.Errorf("%T: %s became %s, %v", c.read, c.text, again, err)
		}
	}
	if got, err := ParseSessionID(strings.ToUpper(id.String())); err != nil || got != id || got.Compare(id) != 0 {
		t.Errorf("%s, %v", got, err)
	}
	if a, b := (SessionID{1, 255}), (SessionID{2}); a.Compare(b) >= 0 || b.Compare(a) <= 0 {
		t.Error("session ids are not ordered as byte strings")
	}
}
