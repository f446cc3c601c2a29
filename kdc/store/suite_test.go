package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssmnet/cmd/e2e/space"
)

// The suite is what every implementation passes. A store under test is reached through reopen, which closes what it
// returned before and returns the same store anew.
type suite struct {
	name string
	make func(t *testing.T) (reopen func() Store)
}

var suites = []suite{
	{"memory", func(t *testing.T) func() Store {
		m := NewMemory()
		t.Cleanup(func() { m.Close() })
		return reopener(t, func() (Store, error) { return m.Share(), nil })
	}},
	{"bolt", func(t *testing.T) func() Store {
		path := filepath.Join(t.TempDir(), "kdc.db")
		s, err := Create(path)
		must(t, err)
		must(t, s.Close())
		return reopener(t, func() (Store, error) { return Open(path) })
	}},
}

func reopener(t *testing.T, open func() (Store, error)) func() Store {
	var s Store
	t.Cleanup(func() {
		if s != nil {
			s.Close()
		}
	})
	return func() Store {
		if s != nil {
			must(t, s.Close())
		}
		var err error
		s, err = open()
		must(t, err)
		return s
	}
}

func TestMain(m *testing.M) {
	childMain()
	goleak.VerifyTestMain(space.Tests{M: m})
}

func TestSuite(t *testing.T) {
	cases := []struct {
		name string
		run  func(t *testing.T, reopen func() Store)
	}{
		{"get", testGet}, {"list", testList}, {"conditions", testConditions}, {"unchanged", testUnchanged},
		{"invalid", testInvalid}, {"aliasing", testAliasing}, {"watch", testWatch}, {"watch ends", testWatchEnds},
		{"watch resync", testWatchResync}, {"writers", testWriters}, {"snapshots", testSnapshots},
		{"model", testModel}, {"closed", testClosed},
	}
	for _, s := range suites {
		for _, c := range cases {
			t.Run(s.name+"/"+c.name, func(t *testing.T) { c.run(t, s.make(t)) })
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func apply1(t testing.TB, s Store, ops ...Op) Revision {
	t.Helper()
	at, err := s.Apply(context.Background(), nil, ops)
	must(t, err)
	return at
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("error has several lines: %q", err)
	}
}

// show writes entries so that they compare and read easily.
func show(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s=%s@%d ", e.Key, e.Value, e.Revision)
	}
	return strings.TrimSpace(b.String())
}

func wantList(t testing.TB, s Store, prefix, want string, at Revision) {
	t.Helper()
	list, revision, err := s.List(context.Background(), prefix)
	must(t, err)
	if got := show(list); got != want || revision != at {
		t.Fatalf("list %q: %s at %d, want %s at %d", prefix, got, revision, want, at)
	}
}

// receive waits for a batch; ok is false when the watch has ended.
func receive(t testing.TB, c <-chan Batch) (b Batch, ok bool) {
	t.Helper()
	select {
	case b, ok = <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came from the watch")
	}
	return b, ok
}

func testGet(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	_, err := s.Get(ctx, "a")
	wantErr(t, err, ErrNotFound)
	at := apply1(t, s, Put("a", []byte("1")), Put("b", nil))
	apply1(t, s, Put("b", []byte("2")))
	s = reopen()
	e, err := s.Get(ctx, "a")
	must(t, err)
	if e.Key != "a" || string(e.Value) != "1" || e.Revision != at {
		t.Fatalf("got %+v", e)
	}
	apply1(t, s, Delete("a"))
	_, err = s.Get(ctx, "a")
	wantErr(t, err, ErrNotFound)
}

func testList(t *testing.T, reopen func() Store) {
	s := reopen()
	wantList(t, s, "", "", 0)
	apply1(t, s, Put("p/b", []byte("2")), Put("p/a", []byte("1")), Put("p", nil), Put("q/a", nil), Put("p/\xff", nil))
	apply1(t, s, Put("p/b", []byte("3")))
	for range 2 {
		wantList(t, s, "p/", "p/a=1@1 p/b=3@2 p/\xff=@1", 2)
		wantList(t, s, "", "p=@1 p/a=1@1 p/b=3@2 p/\xff=@1 q/a=@1", 2)
		wantList(t, s, "p/\xff\xff", "", 2)
		s = reopen()
	}
}

func testConditions(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	apply1(t, s, Put("a", []byte("1")))
	apply1(t, s, Put("b", []byte("1")))
	for _, c := range []struct {
		name string
		cond []Condition
		ok   bool
	}{
		{"same revision", []Condition{{"a", 1}}, true},
		{"older revision", []Condition{{"b", 1}}, false},
		{"newer revision", []Condition{{"b", 3}}, false},
		{"must not exist, does not", []Condition{{"c", 0}}, true},
		{"must not exist, does", []Condition{{"b", 0}}, false},
		{"must exist, does not", []Condition{{"c", 2}}, false},
		{"all but the last hold", []Condition{{"b", 2}, {"c", 0}, {"a", 1}}, false},
	} {
		before, at, err := s.List(ctx, "")
		must(t, err)
		got, err := s.Apply(ctx, c.cond, []Op{Put("a", []byte(c.name)), Delete("z"), Put("d", nil)})
		if c.ok {
			must(t, err)
			if got != at+1 {
				t.Fatalf("%s: revision %d after %d", c.name, got, at)
			}
			continue
		}
		wantErr(t, err, ErrConflict)
		wantList(t, s, "", show(before), at)
	}
	wantList(t, s, "", "a=must not exist, does not@4 b=1@2 d=@4", 4)
}

func testUnchanged(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	apply1(t, s, Put("a", nil))
	for _, ops := range [][]Op{nil, {Delete("b")}, {Delete("b"), Delete("c")}} {
		if at := apply1(t, s, ops...); at != 1 {
			t.Fatalf("%v: revision %d", ops, at)
		}
	}
	_, err := s.Apply(ctx, []Condition{{"a", 7}}, nil)
	wantErr(t, err, ErrConflict)
	wantList(t, s, "", "a=@1", 1)
}

func testInvalid(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	long := strings.Repeat("k", maxKey+1)
	var many []Op
	var manyConditions []Condition
	for i := range maxOps + 1 {
		many = append(many, Put(fmt.Sprint(i), nil))
		manyConditions = append(manyConditions, Condition{Key: fmt.Sprint(i)})
	}
	for name, c := range map[string]struct {
		cond []Condition
		ops  []Op
	}{
		"empty key":           {nil, []Op{Put("", nil)}},
		"empty key, deleted":  {nil, []Op{Delete("")}},
		"long key":            {nil, []Op{Put(long, nil)}},
		"condition's key":     {[]Condition{{"", 0}}, nil},
		"twice":               {nil, []Op{Put("a", nil), Delete("a")}},
		"too many":            {nil, many},
		"too many conditions": {manyConditions, nil},
		"too large":           {nil, []Op{Put("a", make([]byte, maxBytes))}},
	} {
		if _, err := s.Apply(ctx, c.cond, c.ops); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	wantList(t, s, "", "", 0)
	if at := apply1(t, s, many[:maxOps]...); at != 1 {
		t.Fatalf("revision %d", at)
	}
	apply1(t, s, Put(long[:maxKey], make([]byte, maxBytes-maxKey)))
	s = reopen()
	if e, err := s.Get(ctx, long[:maxKey]); err != nil || len(e.Value) != maxBytes-maxKey {
		t.Fatalf("the largest entry: %d bytes, %v", len(e.Value), err)
	}
}

// What goes in and comes out is the caller's to change.
func testAliasing(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	value := []byte("1")
	ops := []Op{Put("a", value)}
	apply1(t, s, ops...)
	value[0] = 'x'
	ops[0] = Delete("b")
	e, err := s.Get(ctx, "a")
	must(t, err)
	e.Value[0] = 'y'
	list, _, err := s.List(ctx, "a")
	must(t, err)
	list[0].Value[0] = 'z'
	wantList(t, s, "", "a=1@1", 1)
	b, _ := receive(t, s.Watch(ctx, 0))
	if b.Changes[0].Key != "a" || string(b.Changes[0].Value) != "1" {
		t.Fatalf("watched %+v", b)
	}
}

func testClosed(t *testing.T, reopen func() Store) {
	s, ctx := reopen(), t.Context()
	apply1(t, s, Put("a", nil))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{ended, context.Canceled}, {ctx, ErrClosed}} {
		if c.want == ErrClosed {
			must(t, s.Close())
			must(t, s.Close())
		}
		_, err := s.Get(c.ctx, "a")
		wantErr(t, err, c.want)
		_, _, err = s.List(c.ctx, "")
		wantErr(t, err, c.want)
		_, err = s.Apply(c.ctx, nil, []Op{Put("b", nil)})
		wantErr(t, err, c.want)
		if b, ok := receive(t, s.Watch(c.ctx, 1)); ok {
			t.Fatalf("watched %+v", b)
		}
	}
	wantList(t, reopen(), "", "a=@1", 1)
}
