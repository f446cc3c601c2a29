package cli

import (
	"strings"
	"testing"
)

// TestManual: the page has every command with its flags and examples, and nothing that is hidden.
func TestManual(t *testing.T) {
	page, errs, code := execute(sample(), "", "man")
	if code != Done || errs != "" || !strings.HasPrefix(page, ".TH KDC 8 ") {
		t.Fatalf("exit %d, %q, %q", code, errs, page)
	}
	Walk(sample(), func(path []string, c *Command) {
		heading := "\n.SS " + roff(synopsis(strings.Join(path, " "), c)) + "\n"
		if strings.Contains(page, heading) == c.Hidden {
			t.Errorf("hidden is %t for %q", c.Hidden, heading)
		}
	})
	for _, part := range []string{".TP\n.B \\-\\-tag, \\-t ", ".TP\n.B \\-\\-dir DIR\n", ".RS 4\n.nf\nkdc ", ".SH EXIT STATUS\n.TP\n.B 0\ndone\n"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q:\n%s", part, page)
		}
	}
}

// TestRoff: no text becomes a request or an escape.
func TestRoff(t *testing.T) {
	const text, want = "a\\b --c\n.so /etc/passwd\n'de x", "a\\eb \\-\\-c\n\\&.so /etc/passwd\n\\&'de x"
	if got := roff(text); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
