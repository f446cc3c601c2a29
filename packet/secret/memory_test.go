package secret

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What LockMemory and NoCoreDumps do lasts as long as the process, so each test runs them in a child: this test binary,
// which reports one line.
var children = map[string]func() error{
	"locked": func() error {
		if err := LockMemory(); err != nil {
			return err
		}
		grown := make([]byte, 64<<20) // the future, too
		grown[0] = 1
		status, err := os.ReadFile("/proc/self/status")
		runtime.KeepAlive(grown)
		fmt.Println(string(regexp.MustCompile(`VmLck:.*|VmRSS:.*`).Find(status)))
		return err
	},
	"limited": func() error {
		must := func(err error) {
			if err != nil {
				panic(err)
			}
		}
		runtime.LockOSThread()
		must(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 65536, Max: 65536}))
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData // of this thread, which is the one that calls
		must(unix.Capset(&header, &none[0]))
		err := LockMemory()
		fmt.Println(errors.Is(err, ErrNotLocked), err)
		_ = make([]byte, 64<<20) // the heap still grows
		return nil
	},
	"no core": func() error {
		if err := NoCoreDumps(); err != nil {
			return err
		}
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
			return err
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Println("core", limit.Cur, limit.Max, "dumpable", dumpable)
		return err
	},
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv("SECRET_TEST_CHILD")]; child != nil {
		if err := child(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runChild(t *testing.T, name string) string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "SECRET_TEST_CHILD="+name)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestLockMemory(t *testing.T) {
	var locked int
	if _, err := fmt.Sscanf(runChild(t, "locked"), "VmLck: %d kB", &locked); err != nil {
		t.Fatal(err)
	}
	if locked < 64<<10 {
		t.Errorf("%d KiB are locked", locked)
	}
}

func TestLockMemoryLimited(t *testing.T) {
	want := "true secret: memory is not locked: the limit is 64 KiB: " +
		"set LimitMEMLOCK=infinity (systemd) or ulimit -l unlimited"
	if got := runChild(t, "limited"); got != want {
		t.Errorf("got %q", got)
	}
}

func TestNoCoreDumps(t *testing.T) {
	if got := runChild(t, "no core"); got != "core 0 0 dumpable 0" {
		t.Errorf("got %q", got)
	}
}
