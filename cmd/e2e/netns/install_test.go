package netns

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ssmnet/cmd/e2e/space"
)

// TestInstall: what install.sh puts below an empty directory is whole, a second run upgrades it and keeps the
// configuration, and uninstall.sh leaves the directory as it was.
func TestInstall(t *testing.T) {
	space.Root(t)
	dir := t.TempDir()
	kept := "var/lib/ssmnet/ssm/ssm.toml"
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, kept)), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, kept), "mtu = 1300\n", 0o600)
	before := tree(t, dir)
	install := func(flags ...string) {
		t.Helper()
		works(t, "scripts/install.sh", append([]string{"--bin", filepath.Join(scratch, "bin"), "--destdir", dir}, flags...)...)
	}
	files := func() []string {
		return slices.DeleteFunc(tree(t, dir), func(path string) bool { return strings.HasSuffix(path, "/") || path == kept })
	}
	install("--ssm")
	if got := files(); !slices.Equal(got, installed("ssm")) {
		t.Errorf("--ssm installed %q, want %q", got, installed("ssm"))
	}
	program := filepath.Join(dir, "usr/local/bin/ssm")
	write(t, program, "an older one", 0o755)
	old, err := os.Open(program) // as a running program has its file open
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	install()
	want := slices.Compact(slices.Sorted(slices.Values(append(installed("ssm"), installed("kdc")...))))
	if got := files(); !slices.Equal(got, want) {
		t.Errorf("installed %q, want %q", got, want)
	}
	b := make([]byte, 64)
	if n, err := old.Read(b); string(b[:n]) != "an older one" {
		t.Errorf("the running program's file has become %q, %v", b[:n], err)
	}
	works(t, program, "version")
	loads(t, dir)
	works(t, "scripts/uninstall.sh", "--destdir", dir)
	if after := tree(t, dir); !slices.Equal(after, before) {
		t.Errorf("uninstalled, %q is there; it was %q", after, before)
	}
	if text := read(t, filepath.Join(dir, kept)); string(text) != "mtu = 1300\n" {
		t.Errorf("the configuration is %q", text)
	}
	install("--prefix", "/usr", "--kdc")
	if unit := read(t, filepath.Join(dir, "etc/systemd/system/ssmnet-kdc.service")); !bytes.Contains(unit, []byte("ExecStart=/usr/bin/kdc serve\n")) {
		t.Errorf("the unit does not run the program in its prefix:\n%s", unit)
	}
	works(t, "scripts/uninstall.sh", "--prefix", "/usr", "--destdir", dir, "--purge")
	if left := slices.DeleteFunc(tree(t, dir), func(path string) bool { return path == "var/" || path == "var/lib/" }); len(left) > 0 {
		t.Errorf("purged, %q is there", left)
	}
}

// TestUninstallOneOfTwo: a unit that runs the programs of another prefix by now stays with those.
func TestUninstallOneOfTwo(t *testing.T) {
	space.Root(t)
	dir := t.TempDir()
	for _, prefix := range []string{"/usr", "/opt/other"} {
		works(t, "scripts/install.sh", "--bin", filepath.Join(scratch, "bin"), "--destdir", dir, "--prefix", prefix, "--kdc")
	}
	works(t, "scripts/uninstall.sh", "--destdir", dir, "--prefix", "/usr")
	if unit := read(t, filepath.Join(dir, "etc/systemd/system/ssmnet-kdc.service")); !bytes.Contains(unit, []byte("ExecStart=/opt/other/bin/kdc serve\n")) {
		t.Errorf("the unit of the other prefix has become\n%s", unit)
	}
	works(t, "scripts/uninstall.sh", "--destdir", dir, "--prefix", "/opt/other")
	if left := slices.DeleteFunc(tree(t, dir), func(path string) bool { return strings.HasSuffix(path, "/") }); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestInstallFails: what a run left that failed half way, uninstall.sh takes away. The directory need not be there before.
func TestInstallFails(t *testing.T) {
	space.Root(t)
	bin, dir := t.TempDir(), filepath.Join(t.TempDir(), "new")
	write(t, filepath.Join(bin, "kdc"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(bin, "ssm"), "#!/bin/sh\nexit 1\n", 0o755)
	if out, err := exec.Command(filepath.Join(root, "scripts/install.sh"), "--bin", bin, "--destdir", dir).CombinedOutput(); err == nil {
		t.Fatalf("installed a program that fails: %s", out)
	}
	if len(tree(t, dir)) == 0 {
		t.Fatal("it failed before it had placed anything")
	}
	works(t, "scripts/uninstall.sh", "--destdir", dir)
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// installed are the files of one program, in order.
func installed(program string) []string {
	share := func(name string) string { return "usr/local/share/" + name }
	list := []string{
		"etc/systemd/system/ssmnet-" + program + ".service", "usr/local/bin/" + program,
		share("bash-completion/completions/" + program), share("zsh/site-functions/_" + program),
		share("fish/vendor_completions.d/" + program + ".fish"), share("man/man8/" + program + ".8"), share("ssmnet/installed"),
	}
	if program == "ssm" {
		list = append(list, share("doc/ssmnet/ssm.toml"))
	}
	return slices.Sorted(slices.Values(list))
}

// loads checks that what reads the installed files takes them: shells, the formatter of manual pages, systemd.
func loads(t *testing.T, dir string) {
	t.Helper()
	share := filepath.Join(dir, "usr/local/share")
	for _, program := range []string{"kdc", "ssm"} {
		page := filepath.Join(share, "man/man8", program+".8")
		out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", page).CombinedOutput()
		if undated := `WARNING: missing date, using "": TH` + "\n"; strings.Count(string(out), "\n") != 1 || !strings.HasSuffix(string(out), undated) {
			t.Errorf("mandoc: %v, of more than that it has no date:\n%s", err, out)
		}
		works(t, "bash", "-uec", "source "+filepath.Join(share, "bash-completion/completions", program)+"; complete -p "+program)
		for shell, file := range map[string]string{
			"zsh": "zsh/site-functions/_" + program, "fish": "fish/vendor_completions.d/" + program + ".fish",
		} {
			if _, err := exec.LookPath(shell); err == nil {
				works(t, shell, "-n", filepath.Join(share, file))
			}
		}
	}
}

// TestInstallRefused: each is one line that says what to do, and nothing is left behind.
func TestInstallRefused(t *testing.T) {
	space.Root(t)
	dir := t.TempDir()
	for _, tt := range []struct {
		script string
		flags  []string
		want   string
	}{
		{"install.sh", []string{"--destdir"}, "--destdir needs a directory"},
		{"install.sh", []string{"--frob"}, "unknown argument --frob: usage: "},
		{"install.sh", []string{"--bin", dir, "--destdir", dir}, dir + "/kdc is no program"},
		{"install.sh", []string{"--prefix", dir + "/my programs", "--destdir", dir}, "--prefix " + dir + "/my programs: a unit cannot name it"},
		{"uninstall.sh", []string{"--destdir", dir}, "nothing of ssmnet is installed in " + dir},
	} {
		out, err := exec.Command(filepath.Join(root, "scripts", tt.script), tt.flags...).CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 || !strings.HasPrefix(string(out), tt.script+": "+tt.want) {
			t.Errorf("%s %q: %v, %q; want %q", tt.script, tt.flags, err, out, tt.want)
		}
	}
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	unprivileged := exec.Command("setpriv", "--reuid=65534", "bash", filepath.Join(root, "scripts/install.sh"), "--bin", "/nonexistent")
	if out, err := unprivileged.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "install.sh: needs root") {
		t.Errorf("without root: %v, %q", err, out)
	}
}

// works runs a command of the checkout or of the system, and gives what it printed.
func works(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	if strings.HasPrefix(name, "scripts/") {
		c.Path, c.Err = filepath.Join(root, name), nil
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	return string(out)
}

// tree lists what is below dir, in order; a directory ends in a slash.
func tree(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && path != dir {
			name := path[len(dir)+1:]
			if e.IsDir() {
				name += "/"
			}
			paths = append(paths, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}
