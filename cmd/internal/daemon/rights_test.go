package daemon

import (
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

// TestConfigured: of a configuration elsewhere its directory is readable, since saving it makes another file.
func TestConfigured(t *testing.T) {
	for _, c := range []struct{ config, want string }{{"", "/d"}, {"/d/kdc.toml", "/d"}, {"/etc/ssmnet/kdc.toml", "/etc/ssmnet"}} {
		if got := configured("/d", c.config); got != c.want {
			t.Errorf("%q: %s, want %s", c.config, got, c.want)
		}
	}
}
