package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// jq runs one of the programs here on its input.
func jq(t *testing.T, input string, args ...string) string {
	t.Helper()
	c := exec.Command("jq", append([]string{"-r", "-L", "."}, args...)...)
	c.Stdin = strings.NewReader(input)
	out, err := c.Output()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		t.Fatalf("jq %v: %v\n%s", args, err, failed.Stderr)
	case err != nil:
		t.Fatalf("%v: it is in the package jq", err)
	}
	return string(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// three rounds of two contestants, in the second of which <b> has no figure for TCP: summed up.
func summed(t *testing.T) string {
	t.Helper()
	rates := map[string][]float64{"a": {2, 4, 8}, "ssmnet": {5, math.NaN(), 4}}
	arrived := map[string][]float64{"a": {50, 100, 200, 150, 180}, "ssmnet": {50, 100, 200, 300, 400}}
	var results []map[string]any
	for name, rate := range rates {
		for i, r := range rate {
			result := func(measure string, figures map[string]float64) {
				results = append(results, map[string]any{"name": name, "measure": measure, "round": i + 1, "figures": figures})
			}
			if !math.IsNaN(r) {
				result("tcp", map[string]float64{"tcp_gbps": r, "tcp_cpu": 1 / r, "tcp_system": 2 / r})
			}
			offered := map[string]float64{}
			for j, offer := range []int{50, 100, 200, 400, 0} {
				offered[fmt.Sprint("offered_", offer)] = arrived[name][j]
			}
			result("offered", offered)
		}
	}
	text, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	return jq(t, `[{"name": "a", "version": "<1>"}, {"name": "ssmnet", "version": "2"}]`,
		"--argjson", "results", string(text), "--arg", "baseline", "a", "--argjson", "rounds", "3", "--argjson", "seconds", "1",
		"--arg", "kernel", "6", "--arg", "go", "go1", "--argjson", "cores", "2", "--arg", "cpu", "<&>", "--arg", "date", "today",
		"--arg", "command", "run <it>", "--arg", "congestion", "bbr", "-f", "summary.jq")
}

type figure struct {
	Median *float64
	All    []*float64
	Ratio  *figure
}

// TestSummary: medians leave out what failed, ratios are of the same round, and kept is what is left of the highest rate.
func TestSummary(t *testing.T) {
	var s struct {
		Measures    []string
		Contestants []struct {
			Name    string
			Figures map[string]figure
		}
	}
	if err := json.Unmarshal([]byte(summed(t)), &s); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Measures, []string{"offered", "tcp"}) || len(s.Contestants) != 2 {
		t.Fatalf("%+v", s)
	}
	a, b := s.Contestants[0].Figures, s.Contestants[1].Figures
	if got := b["tcp_gbps"].All; len(got) != 3 || got[1] != nil {
		t.Errorf("rounds %v, want the second to be null", got)
	}
	for what, c := range map[string]struct {
		got  *float64
		want float64
	}{
		"median":                {a["tcp_gbps"].Median, 4},
		"median but for a null": {b["tcp_gbps"].Median, 4.5},
		"ratio":                 {b["tcp_gbps"].Ratio.Median, 1.5}, // of 5/2 and 4/8
		"of itself":             {a["tcp_gbps"].Ratio.Median, 1},
		"kept of 200":           {a["offered_kept"].Median, 0.75},
		"kept of all":           {b["offered_kept"].Median, 1},
	} {
		if c.got == nil || math.Abs(*c.got-c.want) > 1e-9 {
			t.Errorf("%s is %v, want %v", what, c.got, c.want)
		}
	}
}

func TestGoals(t *testing.T) {
	goals := `[{ "what": "rate", "figure": "tcp_gbps", "of": "a", "least": 1.5 }, { "what": "more", "figure": "tcp_gbps", "of": "a", "least": 1.6 },
		{ "what": "cost", "figure": "tcp_cpu", "of": "a", "most": 1 }, { "what": "less", "figure": "tcp_cpu", "of": "a", "most": 0.5 },
		{ "what": "its own", "figure": "offered_kept", "least": 0.9 }, { "what": "of another", "who": "a", "figure": "offered_kept", "least": 0.9 },
		{ "what": "nobody's", "figure": "tcp_gbps", "of": "b", "least": 1 }, { "what": "no figure", "figure": "ping_us", "most": 1 },
		{ "what": "alone", "figure": "tcp_gbps" }]`
	lines := strings.Split(strings.TrimSpace(jq(t, summed(t), "--argjson", "goals", goals, "-f", "goals.jq")), "\n")
	want := []string{"", "met", "missed", "missed", "missed", "met", "missed", "not measured", "not measured", "recorded"}
	// Costs are 1/5 of 1/2, and 1/4 of 1/8: 1.2 in the middle.
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, line := range lines[1:] {
		if !strings.HasSuffix(line, "  "+want[i+1]) {
			t.Errorf("%q, want %s", line, want[i+1])
		}
	}
}

// TestPicture: what is drawn and tabulated is whole, whatever the machine is called.
func TestPicture(t *testing.T) {
	summary := summed(t)
	svg := jq(t, summary, "-f", "plot.jq")
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	if n := strings.Count(svg, "<rect "); n != 4 { // two contestants, tcp_gbps and tcp_cpu
		t.Errorf("%d bars in\n%s", n, svg)
	}
	table := jq(t, summary, "--argjson", "titles", read(t, "figures.json"), "-f", "table.jq")
	for _, cell := range []string{"4.50 (4.00 to 5.00)", "1.50 (0.50 to 2.50)", "0.75 (0.75 to 0.75)", "\nssmnet              2\n"} {
		if !strings.Contains(table, cell) {
			t.Errorf("no %q in\n%s", cell, table)
		}
	}
}

// TestNames: every measure there is has a function and titles for its figures, and the goals are about those.
func TestNames(t *testing.T) {
	out, err := exec.Command("bash", "-c", `. ./measures.sh; printf '%s\n' "${measures_there[@]}"; echo; declare -F`).Output()
	if err != nil {
		t.Fatal(err)
	}
	there, functions, _ := strings.Cut(string(out), "\n\n")
	var titles []struct {
		Measure string
		Figures []struct{ Key string }
	}
	if err := json.Unmarshal([]byte(read(t, "figures.json")), &titles); err != nil {
		t.Fatal(err)
	}
	var titled, figures []string
	for _, m := range titles {
		titled = append(titled, m.Measure)
		for _, f := range m.Figures {
			figures = append(figures, f.Key)
		}
		if !strings.Contains(functions, " measure_"+m.Measure+"\n") {
			t.Errorf("no function measures %s", m.Measure)
		}
	}
	measures := strings.Fields(there)
	slices.Sort(measures)
	slices.Sort(titled)
	if !slices.Equal(measures, titled) {
		t.Errorf("there are %v, and titles for %v", measures, titled)
	}
	var goals []struct{ Figure string }
	if err := json.Unmarshal([]byte(read(t, "goals.json")), &goals); err != nil {
		t.Fatal(err)
	}
	for _, g := range goals {
		if !slices.Contains(figures, g.Figure) {
			t.Errorf("a goal for %s, which nothing measures", g.Figure)
		}
	}
	if len(goals) == 0 {
		t.Error("no goals")
	}
}
