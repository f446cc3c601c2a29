package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// used returns the part of a store's file that holds pages.
func used(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	f := &file{r: bytes.NewReader(b), size: int64(len(b))}
	must(t, f.readMeta())
	return b[:int64(f.pages)*f.pageSize]
}

// states lists what a store's file may lawfully show: its last revision, or (where its later root was lost) the one
// before.
func states(t testing.TB, path string) map[string]bool {
	t.Helper()
	s, err := Open(path)
	must(t, err)
	before, _, err := s.List(context.Background(), "")
	must(t, err)
	apply1(t, s, Put("peer/0000", []byte("last")))
	after, _, err := s.List(context.Background(), "")
	must(t, err)
	must(t, s.Close())
	return map[string]bool{show(before): true, show(after): true}
}

// tryOpen opens a file with those contents. Whatever they are, it ends in an error of ours or in a store that works
// and shows a lawful state.
func tryOpen(t testing.TB, path string, contents []byte, lawful map[string]bool) (opened bool) {
	t.Helper()
	must(t, os.WriteFile(path, contents, 0o600))
	s, err := Open(path)
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
			t.Fatalf("error %v", err)
		}
		return false
	}
	defer s.Close()
	s.db.NoSync, s.db.NoGrowSync = true, true // thousands of these, and no power cut among them
	list, _, err := s.List(context.Background(), "")
	must(t, err)
	if !lawful[show(list)] {
		t.Fatalf("opened with altered entries: %.300s", show(list))
	}
	at := apply1(t, s, Put("peer/new", bytes.Repeat([]byte("x"), 5000)), Delete("peer/0001"))
	after, revision, err := s.List(context.Background(), "")
	must(t, err)
	if revision != at || len(after) != len(list) {
		t.Fatalf("a change left %d entries at %d, want %d at %d", len(after), revision, len(list), at)
	}
	return true
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	path := newBoltFile(t, 200)
	lawful := states(t, path)
	b := used(t, path)
	for cut := 0; cut < len(b); cut += 512 {
		if tryOpen(t, path, b[:cut], lawful) {
			t.Fatalf("opened with %d of %d bytes", cut, len(b))
		}
	}
	if !tryOpen(t, path, b, lawful) {
		t.Fatal("not opened though whole")
	}
}

// Whatever lawful use makes of a file, it is sound: trees grown deep, thinned, emptied and filled again.
func TestSound(t *testing.T) {
	t.Parallel()
	path := newBoltFile(t, 1)
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 12 {
		s, err := Open(path)
		must(t, err)
		s.db.NoSync = true // thousands of changes, and no power cut in this test
		for range 60 {
			var ops []Op
			for _, k := range rnd.Perm(3000)[:maxOps] {
				op := Put(fmt.Sprintf("%05d%s", k, strings.Repeat("k", k%300)), make([]byte, rnd.IntN(300)))
				if round%3 == 1 || round%3 == 2 && rnd.IntN(2) == 0 {
					op = Delete(op.Key)
				}
				ops = append(ops, op)
			}
			apply1(t, s, ops...)
		}
		want, at, err := s.List(t.Context(), "")
		must(t, err)
		must(t, s.Close())
		s, err = Open(path)
		must(t, err)
		wantList(t, s, "", show(want), at)
		must(t, s.Close())
	}
}

// Any byte may go bad.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	path := newBoltFile(t, 40)
	lawful := states(t, path)
	b := used(t, path)
	refused := 0
	for i := range b {
		if i%4096 > 64 && i%61 != 0 { // all heads of pages, and some of the rest
			continue
		}
		for _, flip := range []byte{1, 0xFF} {
			b[i] ^= flip
			if !tryOpen(t, path, b, lawful) {
				refused++
			}
			b[i] ^= flip
		}
	}
	if refused < 100 {
		t.Errorf("only %d of the flips were found", refused)
	}
}

// A page that kept its older contents, because a write was lost, is sound in itself.
func TestLostWrite(t *testing.T) {
	path := newBoltFile(t, 40)
	older := used(t, path)
	lawful := states(t, path)
	b := used(t, path)
	lost := 0
	for at := 8192; at < len(b) && at < len(older); at += 4096 {
		page := bytes.Clone(b[at : at+4096])
		if bytes.Equal(page, older[at:at+4096]) {
			continue
		}
		copy(b[at:], older[at:at+4096])
		tryOpen(t, path, b, lawful)
		copy(b[at:], page)
		lost++
	}
	if lost == 0 {
		t.Fatal("no page differs")
	}
}

// FuzzOpen overwrites part of a sound file, cuts it, and may make its roots valid again.
func FuzzOpen(f *testing.F) {
	path := newBoltFile(f, 60)
	lawful := states(f, path)
	sound := used(f, path)
	f.Add(uint32(0), []byte{}, uint32(0), false)
	f.Add(uint32(16), []byte{0}, uint32(0), true)                       // magic
	f.Add(uint32(32), []byte{0xFF}, uint32(0), true)                    // root page
	f.Add(uint32(4096+48), []byte{3}, uint32(0), true)                  // free list's page
	f.Add(uint32(56), []byte{0xFF, 0xFF, 0xFF, 0xFF}, uint32(0), true)  // pages in use
	f.Add(uint32(24), []byte{0, 0, 3, 0}, uint32(0), true)              // page size
	f.Add(uint32(4096+24), []byte{0, 0x20}, uint32(0), true)            // page size of one
	f.Add(uint32(8192+8), []byte{1, 0, 0xFF, 0xFF}, uint32(1), false)   // a branch with 65,535 children
	f.Add(uint32(12288+12), []byte{0xFF, 0xFF, 0xFF}, uint32(0), false) // overflow
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, cut uint32, valid bool) {
		b := bytes.Clone(sound)
		copy(b[int(at)%len(b):], patch)
		if valid {
			for _, m := range [][]byte{b[16:], b[4096+16:]} {
				sum := fnv.New64a()
				sum.Write(m[:56])
				order.PutUint64(m[56:], sum.Sum64())
			}
		}
		tryOpen(t, filepath.Join(t.TempDir(), "kdc.db"), b[:len(b)-int(cut)%len(b)], lawful)
	})
}

// FuzzRecord: a record is read as it was written, and with any byte changed not at all.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("peer/ana"), uint64(1), []byte("value"), uint16(0), byte(0))
	f.Add([]byte("k"), ^uint64(0), []byte{}, uint16(15), byte(1))
	f.Add([]byte{}, uint64(0), []byte("x"), uint16(3), byte(0xff))
	f.Fuzz(func(t *testing.T, key []byte, revision uint64, value []byte, at uint16, change byte) {
		b := newRecord(key, Revision(revision), value).marshal()
		b[int(at)%len(b)] ^= change
		r, err := parseRecord(key, b)
		if (err == nil) != (change == 0 && revision != 0) {
			t.Fatalf("%x: %v", b, err)
		}
		if err == nil && !bytes.Equal(r.marshal(), b) {
			t.Fatalf("%x became %x", b, r.marshal())
		}
		if r, err := parseRecord(key, value); err == nil && !bytes.Equal(r.marshal(), value) {
			t.Fatalf("%x became %x", value, r.marshal())
		}
	})
}

// A file cut short under a running store ends in an error for ever, not in SIGBUS, and lets go of its lock.
func TestCutWhileOpen(t *testing.T) {
	t.Parallel()
	for _, use := range []struct {
		name string
		call func(ctx context.Context, s Store) error
	}{
		{"list", func(ctx context.Context, s Store) error { _, _, err := s.List(ctx, ""); return err }},
		{"apply", func(ctx context.Context, s Store) error {
			_, err := s.Apply(ctx, nil, []Op{Put("peer/0100", nil)})
			return err
		}},
	} {
		t.Run(use.name, func(t *testing.T) {
			path := newBoltFile(t, 200)
			s, err := Open(path)
			must(t, err)
			must(t, os.Truncate(path, 8192))
			wantErr(t, use.call(t.Context(), s), ErrDamaged)
			_, err = s.Get(t.Context(), "peer/0001")
			wantErr(t, err, ErrDamaged)
			_, err = s.Apply(t.Context(), nil, []Op{Put("a", nil)})
			wantErr(t, err, ErrDamaged)
			must(t, s.Close())
			_, err = Open(path)
			wantErr(t, err, ErrDamaged)
		})
	}
}
