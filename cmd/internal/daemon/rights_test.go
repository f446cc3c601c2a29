package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestResolver: what a link leads to is readable with its directory, which outlives the file; of /etc the files alone.
func TestResolver(t *testing.T) {
	etc := t.TempDir()
	link := func(name, target string) {
		t.Helper()
		path := filepath.Join(etc, name)
		os.Remove(path)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{filepath.Join(etc, "resolv.conf"), filepath.Join(etc, "hosts"), filepath.Join(etc, "nsswitch.conf")}
	check := func(what string, beneath ...string) {
		t.Helper()
		got, want := resolver(etc), slices.Concat(files, beneath)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("plain files")
	link("resolv.conf", "/run/systemd/resolve/stub-resolv.conf")
	check("a link away", "/run/systemd/resolve")
	link("resolv.conf", "../run/resolvconf/resolv.conf")
	check("a relative link", filepath.Join(filepath.Dir(etc), "run/resolvconf"))
	link("resolv.conf", "resolv.conf.static")
	check("a link beside it")
}

// TestConfigured: of a configuration its directory is readable, since saving it makes another file, and of one that is a
// link that of what it leads to.
func TestConfigured(t *testing.T) {
	dir, kept := t.TempDir(), t.TempDir()
	linked, there := filepath.Join(dir, "linked.toml"), filepath.Join(kept, "kdc.toml")
	if err := errors.Join(os.WriteFile(there, nil, 0o600), os.Symlink(there, linked)); err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string][]string{
		filepath.Join(dir, "none.toml"): {dir}, there: {kept}, linked: {dir, kept},
	} {
		if got := configured(config); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", config, got, want)
		}
	}
}
