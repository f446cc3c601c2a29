package tunssm

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLifeDrawing: the drawing at the top of life.go has every way from state to state that there is, and no other, and
// each is led by a method of that name.
func TestLifeDrawing(t *testing.T) {
	source, err := os.ReadFile("life.go")
	if err != nil {
		t.Fatal(err)
	}
	tend, err := os.ReadFile("tend.go")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[state][]state{}
	for _, way := range regexp.MustCompile(`(?m)^//\t([a-z, ]+) --([a-z]+)--> ([a-z]+)`).FindAllStringSubmatch(string(source), -1) {
		if !strings.Contains(string(source)+string(tend), "func (a *acquirer) "+way[2]+"(s *session") {
			t.Errorf("nothing is called %s", way[2])
		}
		for from := range strings.SplitSeq(way[1], ", ") {
			drawn[named(t, from)] = append(drawn[named(t, from)], named(t, way[3]))
		}
	}
	for from, next := range after {
		slices.Sort(drawn[state(from)])
		if !slices.Equal(drawn[state(from)], next) {
			t.Errorf("from %v: drawn %v, in code %v", state(from), drawn[state(from)], next)
		}
	}
}

func named(t *testing.T, name string) state {
	t.Helper()
	at := slices.Index(stateNames[:], name)
	if at < 0 {
		t.Fatalf("no state is called %q", name)
	}
	return state(at)
}

// TestNoOtherWay: what is not drawn cannot happen.
func TestNoOtherWay(t *testing.T) {
	for from := range after {
		for to := range after {
			happened := func() (ok bool) {
				defer func() { ok = recover() == nil }()
				(&session{state: state(from)}).become(state(to))
				return
			}()
			if happened != slices.Contains(after[from], state(to)) {
				t.Errorf("%v to %v: %v", state(from), state(to), happened)
			}
		}
	}
}
