package secret

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"ssmnet/cmd/e2e/space"
)

// What LockMemory and NoCoreDumps do lasts as long as the process, so each test runs them in a child: this test binary,
// which reports one line.
var children = map[string]func() error{
	"locked": func() error {
		err := LockMemory()
		// As a daemon does: with no capability left, on any thread, everything must still grow.
		if err := cap.NewSet().SetProc(); err != nil {
			return err
		}
		grown := make([]byte, 256<<20)
		for i := 0; i < len(grown); i += os.Getpagesize() {
			grown[i] = 1
		}
		var threads sync.WaitGroup
		for range 20 {
			threads.Go(runtime.LockOSThread) // each ends with its thread
		}
		threads.Wait()
		status, failed := os.ReadFile("/proc/self/status")
		runtime.KeepAlive(grown)
		fmt.Println(string(regexp.MustCompile(`VmLck:.*`).Find(status)), err)
		return failed
	},
	"limited": func() error {
		must := func(err error) {
			if err != nil {
				panic(err)
			}
		}
		must(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 65536, Max: 65536}))
		must(cap.NewSet().SetProc())
		err := LockMemory()
		fmt.Println(errors.Is(err, errNotLocked), err)
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

// TestLockMemory: all of it where the limit allows, and otherwise, with the capability, what there is at the start.
func TestLockMemory(t *testing.T) {
	space.Root(t) // for the capability
	var locked int
	got := runChild(t, "locked")
	if _, err := fmt.Sscanf(got, "VmLck: %d kB", &locked); err != nil {
		t.Fatal(err)
	}
	all := strings.HasSuffix(got, "<nil>")
	part := strings.Contains(got, errNotLocked.Error()+" beyond 64 MiB of heap: the limit is ")
	if all && locked < 256<<10 || part && locked < 64<<10 || !all && !part {
		t.Error(got)
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
