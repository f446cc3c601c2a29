package kdc

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// TestNoteIsOneLine: a note that would not be kept as it is is refused, and nothing is applied.
func TestNoteIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		for _, note := range []string{strings.Repeat("x", maxNote+1), "two\nlines", "\x1b[31mred", "\xff"} {
			if _, err := c.ApplyPolicy(t.Context(), []byte(allowAll), nil, note); !errors.Is(err, ErrInvalid) {
				t.Errorf("note %.20q: %v", note, err)
			}
		}
		if n := c.Status().PolicyRevision; n != 0 {
			t.Errorf("policy revision %d is in force", n)
		}
		longest := strings.Repeat("é", maxNote/2)
		if _, err := c.ApplyPolicy(t.Context(), []byte(allowAll), nil, longest); err != nil {
			t.Error(err)
		}
		if p, err := c.Policy(t.Context(), 0); err != nil || p.Note != longest {
			t.Errorf("%v, note of %d bytes", err, len(p.Note))
		}
	})
}

// TestPolicySizeIsNamed: the limit that is told is the one that holds.
func TestPolicySizeIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		text := allowAll + strings.Repeat(" ", MaxPolicy-len(allowAll))
		c.apply(text)
		if _, err := c.CheckPolicy(t.Context(), []byte(text+" ")); !errors.Is(err, ErrInvalid) ||
			!strings.Contains(err.Error(), "700 KiB") {
			t.Errorf("one byte more: %v", err)
		}
	})
}
