package kdc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"ssmnet/packet/control"
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

// has says which keys there are, in the words of the drawing.
func (p *peerKeys) has() string {
	var list []string
	for _, k := range []struct {
		name string
		is   bool
	}{
		{"current", p.Current != nil}, {"token", p.Token != nil}, {"next", p.Next != nil && !p.Rotation},
		{"rotating", p.rotating() != nil},
	} {
		if k.is {
			list = append(list, k.name)
		}
	}
	return strings.Join(list, "+")
}

// TestPeerKeys: what is drawn for a peer's keys is what each step makes of them, and a step that needs a key that is not
// there is not drawn.
func TestPeerKeys(t *testing.T) {
	key := func() *keyRecord { return &keyRecord{ID: control.NewKeyID()} }
	steps := map[string]struct {
		does  func(*peerKeys)
		needs string
	}{
		"newToken": {func(p *peerKeys) { p.newToken(key()) }, ""},
		"redeem":   {func(p *peerKeys) { p.redeem(key()) }, "token"},
		"rotate":   {func(p *peerKeys) { p.rotate(key()) }, "current"},
		"promote":  {func(p *peerKeys) { p.promote() }, "next rotating"},
	}
	lines := drawn(t, "keys.go", "peerKeys")
	columns := strings.Fields(lines[0])
	if len(columns) != len(steps) || len(lines) != 8 {
		t.Fatalf("%d steps and %d states are drawn", len(columns), len(lines)-1)
	}
	for _, line := range lines[1:] {
		row := strings.Fields(line)
		for i, step := range columns {
			var p peerKeys
			for _, has := range strings.Split(row[0], "+") {
				switch has {
				case "current":
					p.Current = key()
				case "token":
					p.Token = key()
				case "next", "rotating":
					p.Next, p.Rotation = key(), has == "rotating"
				}
			}
			needs := steps[step].needs
			can := needs == "" || slices.ContainsFunc(strings.Fields(needs), func(n string) bool { return strings.Contains(row[0], n) })
			got := "-"
			if can {
				steps[step].does(&p)
				got = p.has()
			}
			if got != row[1+i] {
				t.Errorf("%s of %s comes to %s, drawn %s", step, row[0], got, row[1+i])
			}
		}
	}
}
