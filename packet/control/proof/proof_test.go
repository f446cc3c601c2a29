// Package proof holds the models of the exchange and their results; these tests hold the folder together.
package proof

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// variants are run.sh's lines: variant, switches, query group, expected letters.
func variants(t *testing.T) (out [][]string) {
	t.Helper()
	_, lines, ok := strings.Cut(read(t, "run.sh"), "<<END\n")
	lines, _, end := strings.Cut(lines, "\nEND\n")
	if !ok || !end {
		t.Fatal("run.sh has no table of variants")
	}
	for line := range strings.SplitSeq(lines, "\n") {
		f := strings.Split(line, ":")
		if len(f) != 4 {
			t.Fatalf("run.sh: %q", line)
		}
		out = append(out, f)
	}
	return out
}

// results.txt is the output of this run.sh, complete and in order, and every result is the one expected.
func TestResults(t *testing.T) {
	counts := map[string]int{"N": 5, "L": 3, "S": 2, "Z": 3, "F": 2, "R": 2}
	want := []string{"variant query result expected"}
	for _, v := range variants(t) {
		for i, letter := range v[3] {
			query := v[2] // G1, G2 and G3 are one query each
			if n := counts[v[2]]; n > 0 {
				query = fmt.Sprint(v[2], i+1)
			} else if v[2] == "U" {
				query = "U1"
			}
			result := map[rune]string{'t': "true", 'f': "false"}[letter]
			want = append(want, strings.Join([]string{v[0], query, result, result}, " "))
		}
		if n := max(counts[v[2]], 1); len(v[3]) != n {
			t.Errorf("%s %s: %d results expected, want %d", v[0], v[2], len(v[3]), n)
		}
	}
	lines := strings.Split(strings.TrimSuffix(read(t, "results.txt"), "\n"), "\n")
	for i, line := range lines {
		got := strings.Join(strings.Fields(line), " ")
		if i >= len(want) || got != want[i] {
			t.Errorf("results.txt:%d: %q", i+1, line)
		}
	}
	if len(lines) != len(want) || len(want) < 100 {
		t.Errorf("%d results, want %d", len(lines), len(want))
	}
}

// Every switch of run.sh is one that kdc.pv knows and, where it drops a rule, one that the README explains.
func TestSwitches(t *testing.T) {
	model, readme := read(t, "kdc.pv"), read(t, "README.md")
	attackers := []string{"LISTEN", "BREAK_DH", "BREAK_KEM", "STOLEN_A", "STOLEN_B"}
	for _, v := range variants(t) {
		for _, s := range strings.Fields(v[1]) {
			if !regexp.MustCompile(`(?m)^#if.*\b` + s + `\b`).MatchString(model) {
				t.Errorf("kdc.pv has no switch %s", s)
			}
			if !slices.Contains(attackers, s) && !strings.Contains(readme, "| `"+s+"` |") {
				t.Errorf("README.md has no row for %s", s)
			}
		}
	}
}

// Every test that the README names exists.
func TestNamedTestsExist(t *testing.T) {
	files, err := filepath.Glob("../*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests beside the folder, %v", err)
	}
	var code strings.Builder
	for _, f := range files {
		code.WriteString(read(t, f))
	}
	names := regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(read(t, "README.md"), -1)
	if len(names) < 10 {
		t.Errorf("README.md names %d tests", len(names))
	}
	for _, n := range names {
		if !strings.Contains(code.String(), "func "+n+"(") {
			t.Errorf("README.md names %s, which does not exist", n)
		}
	}
}

func TestRunIsExecutable(t *testing.T) {
	info, err := os.Stat("run.sh")
	if err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
