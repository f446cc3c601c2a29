package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The figure of the four steps in the doc of packet/control has the messages that testdata/grant.txt, drawn from a run,
// has: the same, in the same order, between the same two.
func TestExchangeFigure(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "packet/control/doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, figure, _ := strings.Cut(string(doc), "// # The four steps\n")
	figure, _, _ = strings.Cut(figure, "\n//\n// or, where")
	run, err := os.ReadFile("testdata/grant.txt")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(run), "The session is there.")
	want, got := keyMessages(first, "kdc"), keyMessages(figure, "KDC")
	if len(want) != 4 || !slices.Equal(got, want) {
		t.Errorf("the figure has %q, a run %q", got, want)
	}
}

// keyMessages are the messages of an exchange in a drawing: each with its direction and on which side of the KDC's lane.
func keyMessages(drawing, kdc string) (list []string) {
	lane := -1
	for line := range strings.Lines(drawing) {
		if lane < 0 {
			lane = strings.Index(line, kdc)
		}
		at := regexp.MustCompile(`Key[A-Z]\w+`).FindStringIndex(line)
		if lane < 0 || at == nil {
			continue
		}
		side := "before"
		if at[0] >= lane {
			side = "behind"
		}
		list = append(list, fmt.Sprint(line[at[0]:at[1]], " ", strings.Contains(line, ">"), " ", side))
	}
	return list
}
