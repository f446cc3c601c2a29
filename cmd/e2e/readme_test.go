package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ssmnet/packet/control"
	"ssmnet/policy"
	"ssmnet/tunssm"
)

// The tables of the README name every drop and every reason of a denial once, and nothing else.
func TestTroubleshootingTables(t *testing.T) {
	drops := readmeTable(t, "drop")
	if got, want := slices.Sorted(maps.Keys(drops)), tunssm.DropNames(); !slices.Equal(got, want) {
		t.Errorf("the README explains the drops\n%q, there are\n%q", got, want)
	}
	var reasons []string
	for r := range control.Reason(255) {
		if r.String() != fmt.Sprintf("reason %d", uint8(r)) {
			reasons = append(reasons, r.String())
		}
	}
	slices.Sort(reasons)
	explained := readmeTable(t, "reason")
	if got := slices.Sorted(maps.Keys(explained)); !slices.Equal(got, reasons) {
		t.Errorf("the README explains the reasons\n%q, there are\n%q", got, reasons)
	}
	if why := "`" + string(policy.TooManySelectors) + "`"; !strings.Contains(explained[control.Denied.String()], why) {
		t.Errorf("the README does not explain %s", why)
	}
}

// readmeTable is a table of the README by the names in its first column, each with the rest of its row.
func readmeTable(t *testing.T, head string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n| "+head+" |")
	if !ok {
		t.Fatalf("the README has no table of each %s", head)
	}
	table, _, _ = strings.Cut(table, "\n\n")
	rows := map[string]string{}
	for _, row := range strings.Split(table, "\n")[2:] {
		first, rest, _ := strings.Cut(strings.TrimPrefix(row, "|"), " | ")
		if len(rest) < 15 {
			t.Errorf("the README's row %q explains nothing", row)
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			if rows[m[1]] != "" {
				t.Errorf("the README has two rows for %s", m[1])
			}
			rows[m[1]] = rest
		}
	}
	return rows
}
