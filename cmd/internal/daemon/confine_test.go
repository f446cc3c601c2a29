package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ssmnet/cmd/e2e/space"
)

// confined confines this process as a KDC, whose configuration is saved anew by an editor, and prints what it can do
// and what its threads have left. What else is refused is shown by the netns tests.
func confined() int {
	dir := os.Getenv("SSMNET_TEST_DIR")
	config := filepath.Join(dir, "etc", "kdc.toml")
	own := filepath.Join(dir, "own")
	err := OwnFiles(own)
	if err == nil {
		err = Confine(KDC(own, config), slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		})))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, read := os.ReadFile(config)
	_, elsewhere := os.ReadFile(filepath.Join(dir, "elsewhere"))
	written := os.WriteFile(filepath.Join(own, "made"), nil, 0o600)
	configured := os.WriteFile(config, nil, 0o600)
	fmt.Println(read, errors.Is(elsewhere, fs.ErrPermission), written, errors.Is(configured, fs.ErrPermission))
	threads, err := filepath.Glob("/proc/self/task/*/status")
	for _, name := range threads {
		status, err := os.ReadFile(name)
		if left := regexp.MustCompile(`(?m)^Cap\w+:\s+0*[^0\s].*$|^NoNewPrivs:\s+0$`).Find(status); err != nil || left != nil {
			fmt.Printf("%s: %s %v\n", name, left, err)
		}
	}
	fmt.Println(len(threads) > 1, err)
	return 0
}

// TestConfine: also with cgo, as under the race detector, every thread is confined, and a configuration is readable that is a
// link to where it is kept.
func TestConfine(t *testing.T) {
	space.Root(t) // others cannot give up what their programs might be given
	dir := t.TempDir()
	for _, made := range []string{"own", "etc", "kept"} {
		if err := os.Mkdir(filepath.Join(dir, made), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"kept/kdc.toml", "elsewhere"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../kept/kdc.toml", filepath.Join(dir, "etc/kdc.toml")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSMNET_TEST_DIR", dir)
	pid, log := start(t, "confined")
	how := waitExit(t, pid)
	text, err := os.ReadFile(log)
	said, facts, _ := strings.Cut(strings.TrimPrefix(string(text), "before\n"), "\n")
	if err != nil || how != "exit status 0" || !strings.HasPrefix(said, "level=INFO msg=confined capabilities=none landlock=") ||
		facts != "<nil> true <nil> true\ntrue <nil>\n" {
		t.Errorf("%s, %v: %s", how, err, text)
	}
}

func TestUsable(t *testing.T) {
	if err := usable(filepath.Join(t.TempDir(), "absent")); err != nil {
		t.Errorf("what is not there is for others to tell: %v", err)
	}
	if err := usable(t.TempDir()); err != nil {
		t.Errorf("our own: %v", err)
	}
}
