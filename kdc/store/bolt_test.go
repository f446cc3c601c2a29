package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/packet/secret"
)

// newBoltFile makes a store with n entries over several revisions and returns its path.
func newBoltFile(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kdc.db")
	s, err := Create(path)
	must(t, err)
	for i := range n {
		apply1(t, s, Put(fmt.Sprintf("peer/%04d", i), bytes.Repeat([]byte{byte(i)}, 100)))
	}
	must(t, s.Close())
	return path
}

func TestCreate(t *testing.T) {
	path := newBoltFile(t, 1)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	_, err = Create(path)
	wantErr(t, err, fs.ErrExist)
	_, err = Create(filepath.Join(t.TempDir(), "none", "kdc.db"))
	wantErr(t, err, fs.ErrNotExist)
	s, err := Open(path)
	must(t, err)
	defer s.Close()
	if _, at, _ := s.List(t.Context(), ""); at != 1 {
		t.Errorf("a refused Create changed the store: revision %d", at)
	}
}

func TestOpenRefuses(t *testing.T) {
	bolt := func(t *testing.T, path string) {
		db, err := bbolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte("theirs"))
			if err == nil {
				err = b.Put([]byte("a"), []byte("b"))
			}
			return err
		}))
		must(t, db.Close())
	}
	write := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) { must(t, os.WriteFile(path, b, 0o600)) }
	}
	ours, err := os.ReadFile(newBoltFile(t, 50))
	must(t, err)
	for _, c := range []struct {
		name string
		make func(*testing.T, string)
		want error
		line string
	}{
		{"missing", func(*testing.T, string) {}, fs.ErrNotExist, "store PATH: no such file or directory"},
		{"loose", func(t *testing.T, path string) {
			write(ours)(t, path)
			must(t, os.Chmod(path, 0o640))
		}, secret.ErrLoose, "store PATH is readable by others (mode 0640): run chmod 600 PATH"},
		{"empty", write(nil), ErrDamaged, "store PATH: damaged: it is empty: restore a backup"},
		{"text", write(bytes.Repeat([]byte("text\n"), 20000)), ErrForeign,
			"store PATH: not a store of this program: not a bbolt database: check the path"},
		{"short text", write([]byte("text\n")), ErrForeign,
			"store PATH: not a store of this program: not a bbolt database: check the path"},
		{"other database", bolt, ErrForeign,
			"store PATH: not a store of this program: a bbolt database with other contents: check the path"},
		{"one page", write(ours[:4096]), ErrDamaged, ""},
		{"half a meta", write(ours[:40]), ErrDamaged, ""},
		{"two pages", write(ours[:8192]), ErrDamaged, ""},
		{"one page lost in front", write(ours[4096:]), ErrDamaged, ""},
		{"zeros behind the metas", write(append(ours[:8192:8192], make([]byte, len(ours)-8192)...)),
			ErrDamaged, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kdc.db")
			c.make(t, path)
			_, err := Open(path)
			wantErr(t, err, c.want)
			if got := strings.ReplaceAll(err.Error(), path, "PATH"); c.line != "" && got != c.line {
				t.Errorf("line %q, want %q", got, c.line)
			}
			if file, err := os.Open(path); err == nil { // the lock is free again
				defer file.Close()
				must(t, unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB))
			}
		})
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	path := newBoltFile(t, 3)
	s, err := Open(path)
	must(t, err)
	_, err = Open(path)
	wantErr(t, err, ErrInUse)
	if want := "store " + path + ": in use by another process: stop that one first"; err.Error() != want {
		t.Errorf("line %q", err)
	}
	apply1(t, s, Put("a", nil)) // undisturbed
	must(t, s.Close())
	s, err = Open(path)
	must(t, err)
	must(t, s.Close())
}

func TestDiskFull(t *testing.T) {
	dir := space.Disk(t, "512k")
	path := filepath.Join(dir, "kdc.db")
	s, err := Create(path)
	must(t, err)
	var at Revision
	for i := 0; err == nil; i++ {
		var next Revision
		next, err = s.Apply(t.Context(), nil, []Op{Put(fmt.Sprint(i%20), bytes.Repeat([]byte("x"), 10000+i*100))})
		if err == nil {
			at = next
		}
	}
	wantErr(t, err, ErrFull)
	if want := "store " + path + ": no space left on its disk: make room and try again"; err.Error() != want {
		t.Errorf("line %q", err)
	}
	before, revision, err := s.List(t.Context(), "")
	must(t, err)
	if revision != at {
		t.Errorf("revision %d after a failed change, want %d", revision, at)
	}
	space.Resize(t, dir, "4m")
	if next := apply1(t, s, Put("roomy", nil)); next != at+1 {
		t.Errorf("revision %d, want %d", next, at+1)
	}
	must(t, s.Close())
	s, err = Open(path)
	must(t, err)
	defer s.Close()
	wantList(t, s, "", show(before)+fmt.Sprintf(" roomy=@%d", at+1), at+1)
}

func TestCreateDiskFull(t *testing.T) {
	dir := space.Disk(t, "8k")
	_, err := Create(filepath.Join(dir, "kdc.db"))
	wantErr(t, err, ErrFull)
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBackup(t *testing.T) {
	s, err := Open(newBoltFile(t, 100))
	must(t, err)
	defer s.Close()
	want, at, err := s.List(t.Context(), "")
	must(t, err)
	var b bytes.Buffer
	must(t, s.Backup(t.Context(), io.MultiWriter(&b, writerFunc(func() { // a writer may go on meanwhile
		apply1(t, s, Put("later", nil))
	}))))
	path := filepath.Join(t.TempDir(), "restored.db")
	must(t, os.WriteFile(path, b.Bytes(), 0o600))
	restored, err := Open(path)
	must(t, err)
	defer restored.Close()
	wantList(t, restored, "", show(want), at)
}

type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) { f(); return len(b), nil }

// childMain makes this test binary the child of TestKilled: it applies for ever and tells each revision it was given.
func childMain() {
	path := os.Getenv("STORE_TEST_CHILD")
	if path == "" {
		return
	}
	s, err := Open(path)
	for i := 0; err == nil; i++ {
		var at Revision
		v := fmt.Append(nil, i)
		if at, err = s.Apply(context.Background(), nil, []Op{Put("a", v), Put("b", v)}); err == nil {
			fmt.Println(at)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// What Apply has returned survives the end of the process at any moment, and what it has not is there whole or not.
func TestKilled(t *testing.T) {
	path := newBoltFile(t, 1)
	for _, n := range []int{1, 7, 40} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "STORE_TEST_CHILD="+path)
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		var at Revision
		lines := bufio.NewScanner(out)
		for i := 0; i < n && lines.Scan(); i++ {
			_, err := fmt.Sscan(lines.Text(), &at)
			must(t, err)
		}
		must(t, child.Process.Kill())
		child.Wait()
		s, err := Open(path)
		must(t, err)
		a, err := s.Get(t.Context(), "a")
		must(t, err)
		b, err := s.Get(t.Context(), "b")
		must(t, err)
		if at == 0 || a.Revision < at || a.Revision != b.Revision || !bytes.Equal(a.Value, b.Value) {
			t.Fatalf("told %d, found %+v and %+v", at, a, b)
		}
		must(t, s.Close())
	}
}
