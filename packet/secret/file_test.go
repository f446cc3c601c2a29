package secret

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadFile(t *testing.T) {
	content := []byte("identity\n")
	write := func(mode fs.FileMode) func(string) error {
		return func(path string) error {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	for _, c := range []struct {
		name string
		make func(path string) error
		want error  // or nil
		line string // PATH stands for the path; "" where the file is read
	}{
		{"0600", write(0o600), nil, ""},
		{"0400", write(0o400), nil, ""},
		{"0700", write(0o700), nil, ""},
		{"0644", write(0o644), ErrLoose, "PATH is readable by others (mode 0644): run chmod 600 PATH"},
		{"0640", write(0o640), ErrLoose, "PATH is readable by others (mode 0640): run chmod 600 PATH"},
		{"0604", write(0o604), ErrLoose, "PATH is readable by others (mode 0604): run chmod 600 PATH"},
		{"0620", write(0o620), ErrLoose, "PATH is writable by others (mode 0620): run chmod 600 PATH"},
		{"0602", write(0o602), ErrLoose, "PATH is writable by others (mode 0602): run chmod 600 PATH"},
		{"0610", write(0o610), ErrLoose, "PATH is executable by others (mode 0610): run chmod 600 PATH"},
		{"0777", write(0o777), ErrLoose, "PATH is readable by others (mode 0777): run chmod 600 PATH"},
		{"somebody else's", func(path string) error {
			return errors.Join(write(0o600)(path), os.Chown(path, 12345, 0))
		}, ErrLoose, "PATH belongs to user 12345, not to 0: run chown 0 PATH"},
		{"missing", func(string) error { return nil }, fs.ErrNotExist, "open PATH: no such file or directory"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }, nil, "PATH is not a regular file"},
		{"fifo", func(path string) error { return unix.Mkfifo(path, 0o600) }, nil, "PATH is not a regular file"},
		{"device", func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) },
			nil, "PATH is not a regular file"},
		{"socket", func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
			nil, "PATH is not a regular file"},
		{"symbolic link", func(path string) error {
			return errors.Join(write(0o600)(path+".to"), os.Symlink(path+".to", path))
		}, nil, "PATH is a symbolic link: name the file that it points to"},
		{"too long", func(path string) error { return os.WriteFile(path, make([]byte, 101), 0o600) },
			nil, "PATH is too long: 101 bytes, at most 100 are expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "identity")
			space.Require(t, c.make(path))
			got, err := ReadFile(path, 100)
			if c.line == "" {
				must(t, err)
				if !bytes.Equal(got, content) {
					t.Errorf("read %q", got)
				}
				return
			}
			if err == nil || strings.ReplaceAll(err.Error(), path, "PATH") != c.line {
				t.Errorf("error %v", err)
			}
			if c.want != nil && !errors.Is(err, c.want) || errors.Is(err, ErrLoose) != (c.want == ErrLoose) {
				t.Errorf("error %v is of the wrong kind", err)
			}
		})
	}
}

// Whoever is not root may read root's files where the mode lets it, and no third one's.
func TestOwner(t *testing.T) {
	for _, c := range []struct {
		owner, euid int
		ok          bool
	}{{0, 0, true}, {1000, 1000, true}, {0, 1000, true}, {1000, 0, false}, {1001, 1000, false}} {
		if err := checkOwner("/x", c.owner, c.euid); (err == nil) != c.ok {
			t.Errorf("owner %d, user %d: %v", c.owner, c.euid, err)
		}
	}
}

// A file need not stay as long as it was when it was opened.
func TestReadFileExact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	for _, n := range []int{0, 1, 100} {
		must(t, WriteFile(path, bytes.Repeat([]byte{7}, n)))
		got, err := ReadFile(path, 100)
		must(t, err)
		if len(got) != n || cap(got) != n {
			t.Errorf("%d bytes (capacity %d), want %d", len(got), cap(got), n)
		}
	}
}

func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != strings.Join(want, " ") {
		t.Errorf("the directory holds %s, want %s", got, strings.Join(want, " "))
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "identity")
	must(t, os.WriteFile(path, []byte("old and much longer"), 0o644))
	held, err := os.Open(path) // whoever reads the old file goes on reading the old one
	must(t, err)
	defer held.Close()
	defer unix.Umask(unix.Umask(0o277))
	must(t, WriteFile(path, []byte("new")))
	got, err := ReadFile(path, 100)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if string(got) != "new" || info.Mode() != 0o600 {
		t.Errorf("%q, %v", got, info.Mode())
	}
	old := make([]byte, 3)
	if _, err := held.Read(old); err != nil || string(old) != "old" {
		t.Errorf("the old file was written to: %q, %v", old, err)
	}
	wantFiles(t, dir, "identity")
}

func TestWriteFileRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, WriteFile("identity", []byte("new")))
	wantFiles(t, ".", "identity")
}

func TestWriteFileReplacesLink(t *testing.T) {
	dir := t.TempDir()
	target, path := filepath.Join(dir, "target"), filepath.Join(dir, "identity")
	must(t, os.WriteFile(target, []byte("theirs"), 0o600))
	must(t, os.Symlink(target, path))
	must(t, WriteFile(path, []byte("ours")))
	if b, err := os.ReadFile(target); err != nil || string(b) != "theirs" {
		t.Errorf("wrote through a symbolic link: %q, %v", b, err)
	}
}

// A write that was killed leaves its copy under one name, which the next write or Sweep takes away, and nothing is
// written through a link that somebody has put there.
func TestWriteFileReplacesUnfinished(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "identity")
	for name, leave := range map[string]func(string) error{
		"file":          func(p string) error { return os.WriteFile(p, []byte("a copy of the secret, cut sh"), 0o600) },
		"symbolic link": func(p string) error { return os.Symlink(filepath.Join(dir, "theirs"), p) },
	} {
		must(t, leave(path+".new"))
		must(t, WriteFile(path, []byte("new")))
		if b, err := ReadFile(path, 100); err != nil || string(b) != "new" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		wantFiles(t, dir, "identity")
		must(t, leave(path+".new"))
		must(t, Sweep(path))
		wantFiles(t, dir, "identity")
		must(t, Sweep(path))
	}
	must(t, os.Mkdir(path+".new", 0o700))
	want := "remove " + path + ".new: is a directory"
	if err := Sweep(path); !errors.Is(err, syscall.EISDIR) || err.Error() != want {
		t.Errorf("a directory: %v, want %s", err, want)
	}
	if err := WriteFile(path, []byte("newer")); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("over a directory: %v", err)
	}
	if b, err := ReadFile(path, 100); err != nil || string(b) != "new" {
		t.Errorf("a write that failed changed the file: %q, %v", b, err)
	}
}

func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "identity")
	must(t, os.Mkdir(path, 0o700))
	if err := WriteFile(path, []byte("new")); !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EISDIR) {
		t.Errorf("over a directory: %v", err)
	}
	wantFiles(t, dir, "identity")
	err := WriteFile(filepath.Join(dir, "none", "identity"), nil)
	if want := "write " + dir + "/none/identity: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("into no directory: %v", err)
	}
}

func TestWriteFileDiskFull(t *testing.T) {
	dir := space.Disk(t, "16k")
	path := filepath.Join(dir, "identity")
	must(t, WriteFile(path, []byte("old")))
	err := WriteFile(path, make([]byte, 64<<10))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v", err)
	}
	if want := "write " + path + ": no space left on device: make room and try again"; err.Error() != want {
		t.Errorf("line %q, want %q", err, want)
	}
	if b, err := ReadFile(path, 100); err != nil || string(b) != "old" {
		t.Errorf("the old file: %q, %v", b, err)
	}
	wantFiles(t, dir, "identity")
}
