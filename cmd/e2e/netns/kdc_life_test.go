package netns

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestServeTwice: the second says that there is a first, which goes on.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	n := newNet(t, 1)
	k := n.KDC
	refuses(t, k.Try(t, "serve"), 1, "kdc init")
	k.Do(t, "init", "--address", "10.77.0.1")
	k.leavesNothing(t, func() {
		refuses(t, k.Try(t, "status"), 3, "not running", "kdc --dir "+k.dir+" serve")
		k.Serve(t)
		refuses(t, k.Try(t, "serve"), 1, k.dir, "another one is running")
		k.Do(t, "status")
		if r := k.Stop(t, syscall.SIGTERM); r.Code != 0 {
			t.Error(r)
		}
	})
	refuses(t, k.Try(t, "init", "--address", "10.77.0.1"), 6, "already initialised")

	other := &KDC{Host: &Host{Name: k.Name, space: k.space, dir: k.dir + "-other"}}
	other.Do(t, "init", "--address", "10.77.0.1")
	k.Serve(t)
	other.leavesNothing(t, func() { refuses(t, other.Try(t, "serve"), 1, ":7600", "in use", "--listen") })
}

// TestServeRefused: a store that is not safe, not its own or not whole is not served, and not touched.
func TestServeRefused(t *testing.T) {
	t.Parallel()
	n := newNet(t, 1)
	k := n.KDC
	k.Do(t, "init", "--address", "10.77.0.1")
	other := &KDC{Host: &Host{Name: k.Name, space: k.space, dir: k.dir + "-other"}}
	other.Do(t, "init", "--address", "10.77.0.1")
	db, key, config := filepath.Join(k.dir, "store.db"), filepath.Join(k.dir, "store.key"), filepath.Join(k.dir, "kdc.toml")
	whole := read(t, db)

	tests := []struct {
		name    string
		prepare func(t *testing.T)
		words   []string
	}{
		{"loose key", func(t *testing.T) { chmod(t, key, 0o644) }, []string{key, "0644", "chmod 600"}},
		{"loose store", func(t *testing.T) { chmod(t, db, 0o640) }, []string{db, "0640", "chmod 600"}},
		{"foreign store", func(t *testing.T) { replace(t, db, read(t, filepath.Join(other.dir, "store.db"))) },
			[]string{"another store key"}},
		{"foreign key", func(t *testing.T) { replace(t, key, read(t, filepath.Join(other.dir, "store.key"))) },
			[]string{"another store key"}},
		{"no key", func(t *testing.T) { away(t, key) }, []string{key, "missing"}},
		{"no store", func(t *testing.T) { away(t, db) }, []string{db, "missing"}},
		{"empty store", func(t *testing.T) { replace(t, db, nil) }, []string{db, "damaged", "restore"}},
		{"a few bytes of a store", func(t *testing.T) { replace(t, db, whole[:100]) }, []string{db, "damaged", "restore"}},
		{"truncated store", func(t *testing.T) { replace(t, db, whole[:2*os.Getpagesize()]) },
			[]string{db, "damaged", "restore"}},
		{"no store at all", func(t *testing.T) { replace(t, db, make([]byte, len(whole))) }, []string{db}},
		{"short key", func(t *testing.T) { replace(t, key, []byte("short")) }, []string{key}},
		{"faulty configuration", func(t *testing.T) { replace(t, config, []byte("listen = 7\n")) }, []string{config}},
		{"unknown setting", func(t *testing.T) { replace(t, config, []byte("lisden = [\":7600\"]\n")) },
			[]string{config, "lisden"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.prepare(t)
			k.leavesNothing(t, func() { refuses(t, k.Try(t, "serve"), 1, tt.words...) })
			unlocked := []string{"setpriv", "--bounding-set=-ipc_lock", program("kdc"), "--dir", k.dir, "serve"}
			refuses(t, k.Host.Try(t, unlocked...), 1, tt.words...) // nor does it warn that keys may reach swap
		})
	}
	k.Serve(t) // each of them was the only thing in the way
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// away moves a file aside until the test ends.
func away(t *testing.T, name string) {
	t.Helper()
	rename(t, name, name+".away")
	t.Cleanup(func() { rename(t, name+".away", name) })
}
