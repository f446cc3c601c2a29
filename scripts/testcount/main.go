// Testcount reads the events of go test -json on standard input and says in the end, on standard output, how many tests
// passed and failed, as two numbers. The output of what failed goes to standard error.
//
// It counts tests, fuzz targets and examples, not their subtests. A skipped test counts as failed, for here nothing may
// be passed over; so does a package that fails outside any test (it does not build, panics, runs out of time), and
// an input without any test. It exits with 1 if anything failed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a build event
	Test        string
	Output      string
	FailedBuild string
}

func main() {
	passed, failed, err := count(os.Stdin, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		failed++
	}
	fmt.Println(passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// count reads events until their end, writing the output of what fails to w.
func count(r io.Reader, w io.Writer) (passed, failed int, err error) {
	t := tally{w: w, output: map[string][]string{}, failedTests: map[string]bool{}}
	d := json.NewDecoder(r)
	for {
		var e event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			if t.passed+t.failed == 0 {
				return 0, 0, errors.New("no tests ran")
			}
			return t.passed, t.failed, nil
		case err != nil:
			return t.passed, t.failed, fmt.Errorf("not go test -json: %w", err)
		}
		t.add(e)
	}
}

// tally is the state of one count.
type tally struct {
	w              io.Writer
	output         map[string][]string // by package and top-level test, until it ends
	failedTests    map[string]bool     // packages with a failed test
	passed, failed int
}

func (t *tally) add(e event) {
	test, _, isSub := strings.Cut(e.Test, "/")
	key := e.Package + " " + test
	switch e.Action {
	case "output":
		t.output[key] = append(t.output[key], e.Output)
	case "build-output":
		t.output[e.ImportPath] = append(t.output[e.ImportPath], e.Output)
	case "pass", "fail", "skip":
		switch {
		case isSub:
			t.skippedPart(e)
		case e.Test == "":
			t.endPackage(e)
		default:
			t.endTest(e, key)
		}
	}
}

// skippedPart counts a skipped subtest as a failure of its own: the test above it may well pass.
func (t *tally) skippedPart(e event) {
	if e.Action == "skip" {
		t.failed++
		fmt.Fprintf(t.w, "--- skipped: %s %s\n", e.Package, e.Test)
	}
}

func (t *tally) endTest(e event, key string) {
	if e.Action == "pass" {
		t.passed++
	} else {
		t.failed++
		t.failedTests[e.Package] = true
		t.show(e.Action, key)
	}
	delete(t.output, key)
}

// endPackage counts a package that failed though none of its tests did. A package without tests is "skip": no failure.
func (t *tally) endPackage(e event) {
	if e.Action != "fail" || t.failedTests[e.Package] {
		return
	}
	t.failed++
	if e.FailedBuild != "" {
		t.show("does not build", e.FailedBuild)
	}
	for key := range t.output { // a test that was running when the package died
		if strings.HasPrefix(key, e.Package+" ") {
			t.show("package failed", key)
		}
	}
}

// progress says that a line only tells that a test began, waits or passed.
func progress(line string) bool {
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(strings.TrimLeft(line, " "), "--- PASS: ")
}

// shown bounds how many lines of one test's output are printed: the first and the last.
const shown = 200

func (t *tally) show(what, key string) {
	lines := slices.DeleteFunc(slices.Clone(t.output[key]), progress)
	fmt.Fprintf(t.w, "--- %s: %s\n", what, key)
	if len(lines) > shown {
		cut := len(lines) - shown
		lines = append(append(lines[:shown/2:shown/2], fmt.Sprintf("... %d lines ...\n", cut)), lines[len(lines)-shown/2:]...)
	}
	io.WriteString(t.w, strings.Join(lines, ""))
}
