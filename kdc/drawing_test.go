package kdc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// drawn gives the tab-indented lines of a declaration's comment, which are a drawing.
func drawn(t *testing.T, file, name string) (lines []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		d, ok := n.(*ast.GenDecl)
		if !ok || d.Doc == nil {
			return true
		}
		if spec, ok := d.Specs[0].(*ast.TypeSpec); ok && spec.Name.Name == name {
			for _, c := range d.Doc.List {
				if line, indented := strings.CutPrefix(c.Text, "//\t"); indented {
					lines = append(lines, line)
				}
			}
		}
		return true
	})
	if len(lines) == 0 {
		t.Fatalf("%s has no drawing of %s", file, name)
	}
	return lines
}

// TestPhases: the arrows drawn for an exchange are those that move permits, each phase leads to an end, and none out of it.
func TestPhases(t *testing.T) {
	names := map[string]phase{
		"asked": phaseAsked, "waiting": phaseWaiting, "offered": phaseOffered, "answered": phaseAnswered,
		"granted": phaseGranted, "denied": phaseDenied,
	}
	var arrows, permitted []string
	for _, line := range drawn(t, "pending.go", "phase") {
		path, _, _ := strings.Cut(line, "   ")
		steps := strings.Split(strings.TrimSpace(path), " --> ")
		for i := range len(steps) - 1 {
			from, known := names[steps[i]]
			to, also := names[steps[i+1]]
			if !known || !also {
				t.Fatalf("%q is drawn between phases that there are not", line)
			}
			arrows = append(arrows, fmt.Sprint(from, " to ", to))
		}
	}
	for from, list := range phases {
		for _, to := range list {
			permitted = append(permitted, fmt.Sprint(from, " to ", to))
		}
	}
	slices.Sort(arrows)
	slices.Sort(permitted)
	if !slices.Equal(arrows, permitted) {
		t.Errorf("drawn:     %v\npermitted: %v", arrows, permitted)
	}
	if len(phases[phaseGranted])+len(phases[phaseDenied]) != 0 {
		t.Error("an exchange that has ended goes on")
	}
}

// TestHolds: the table drawn for a side's hold on a session is the one that is used.
func TestHolds(t *testing.T) {
	names := map[string]hold{"supposed": supposed, "holds": holds, "closed": closed, "lacks": lacks}
	lines := drawn(t, "sessions.go", "hold")
	if got := strings.Fields(lines[0]); !slices.Equal(got, []string{"tells", "closes", "misses"}) {
		t.Fatalf("columns %v", got)
	}
	if len(lines) != 1+len(holdAfter) {
		t.Fatalf("%d lines for %d states", len(lines)-1, len(holdAfter))
	}
	for _, line := range lines[1:] {
		row := strings.Fields(line)
		for i, name := range row[1:] {
			want, known := names[name]
			if got := holdAfter[names[row[0]]][word(i)]; !known || got != want {
				t.Errorf("drawn %q, but the side of column %d comes to %d", line, i, got)
			}
		}
	}
}
