package space

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Tests{m}.Run()) }

// TestEnter: there is a loopback, and it works.
func TestEnter(t *testing.T) {
	Enter(t)
	all, err := net.Interfaces()
	if err != nil || len(all) != 1 || all[0].Flags&net.FlagUp == 0 {
		t.Errorf("interfaces %v, %v", all, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestIn: what is made inside stays there, and the test outside.
func TestIn(t *testing.T) {
	count := func() int {
		t.Helper()
		all, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	outside, inside := count(), 0
	for _, space := range []*os.File{New(t), New(t)} {
		if err := In(space, func() error { inside = count(); return nil }); err != nil || inside != 1 {
			t.Errorf("%d interfaces inside, %v", inside, err)
		}
	}
	if again := count(); again != outside {
		t.Errorf("%d interfaces outside, %d before", again, outside)
	}
	failed := errors.New("failed")
	if err := In(New(t), func() error { return failed }); err != failed {
		t.Errorf("%v, want %v", err, failed)
	}
}

func TestDisk(t *testing.T) {
	dir := Disk(t, "16k")
	fill := func() error { return os.WriteFile(filepath.Join(dir, "file"), make([]byte, 64<<10), 0o600) }
	if err := fill(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("too much: %v", err)
	}
	Resize(t, dir, "1m")
	if err := fill(); err != nil {
		t.Errorf("with more room: %v", err)
	}
}

// TestOrdinaryUser: somebody else's tests pass, or are skipped where the kernel gives them nothing, and do not fail. What
// takes root of the machine is skipped.
func TestOrdinaryUser(t *testing.T) {
	Root(t)
	dir, err := os.MkdirTemp("", "ssmnet-space") // which others can enter, as they cannot the test binary's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile("/proc/self/exe")
	program := filepath.Join(dir, "program")
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(program, binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "-test.v")
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var ended []string
	for line := range strings.Lines(string(out)) {
		if verdict, ok := strings.CutPrefix(line, "--- "); ok {
			ended = append(ended, strings.Fields(verdict)[0])
		}
	}
	if len(ended) != 4 || ended[3] != "SKIP:" || ended[0] != ended[1] || ended[1] != ended[2] {
		t.Errorf("ended with %q:\n%s", ended, out)
	}
	t.Logf("an ordinary user's tests: %s", ended[0])
}
