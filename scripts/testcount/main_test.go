package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	tests := []struct {
		name, events   string
		passed, failed int
		shows          string // in the output of what failed
		wrong          string // in the error
	}{
		{"passes", `
			{"Action":"run","Package":"p","Test":"TestA"}
			{"Action":"pass","Package":"p","Test":"TestA/sub"}
			{"Action":"pass","Package":"p","Test":"TestA"}
			{"Action":"pass","Package":"p","Test":"FuzzB"}
			{"Action":"pass","Package":"p"}
			{"Action":"skip","Package":"no/tests"}`, 2, 0, "", ""},
		{"a test fails", `
			{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
			{"Action":"output","Package":"p","Test":"TestA/fine","Output":"    --- PASS: TestA/fine\n"}
			{"Action":"output","Package":"p","Test":"TestA/sub","Output":"the reason\n"}
			{"Action":"fail","Package":"p","Test":"TestA/sub"}
			{"Action":"fail","Package":"p","Test":"TestA"}
			{"Action":"pass","Package":"p","Test":"TestB"}
			{"Action":"fail","Package":"p"}`, 1, 1, "--- fail: p TestA\nthe reason\n", ""},
		{"a skip is a failure", `
			{"Action":"skip","Package":"p","Test":"TestA"}
			{"Action":"skip","Package":"p","Test":"TestB/sub"}
			{"Action":"pass","Package":"p","Test":"TestB"}
			{"Action":"pass","Package":"p"}`, 1, 2, "--- skipped: p TestB/sub\n", ""},
		{"does not build", `
			{"ImportPath":"p [p.test]","Action":"build-output","Output":"undefined: x\n"}
			{"ImportPath":"p [p.test]","Action":"build-fail"}
			{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`, 0, 1, "undefined: x\n", ""},
		{"dies within a test", `
			{"Action":"pass","Package":"p","Test":"TestA"}
			{"Action":"output","Package":"p","Test":"TestB","Output":"panic: test timed out\n"}
			{"Action":"fail","Package":"p"}`, 1, 1, "panic: test timed out\n", ""},
		{"nothing ran", `{"Action":"skip","Package":"p"}`, 0, 0, "", "no tests ran"},
		{"no input", "", 0, 0, "", "no tests ran"},
		{"not events", `{"Action":"pass","Package":"p","Test":"TestA"} go: no such thing`, 1, 0, "", "not go test -json"},
	}
	for _, test := range tests {
		var out strings.Builder
		passed, failed, err := count(strings.NewReader(test.events), &out)
		if passed != test.passed || failed != test.failed {
			t.Errorf("%s: %d passed, %d failed; want %d, %d", test.name, passed, failed, test.passed, test.failed)
		}
		if !strings.Contains(out.String(), test.shows) || (test.shows == "") != (out.Len() == 0) {
			t.Errorf("%s: shows %q, want %q", test.name, out.String(), test.shows)
		}
		if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.wrong)
		}
	}
}

func TestShowBounds(t *testing.T) {
	events := strings.Repeat(`{"Action":"output","Package":"p","Test":"TestA","Output":"x\n"}`, 1000) +
		`{"Action":"fail","Package":"p","Test":"TestA"}`
	var out strings.Builder
	if _, failed, err := count(strings.NewReader(events), &out); failed != 1 || err != nil {
		t.Fatal(failed, err)
	}
	if n := strings.Count(out.String(), "x\n"); n != shown || !strings.Contains(out.String(), "... 800 lines ...") {
		t.Errorf("%d of 1000 lines shown", n)
	}
}
