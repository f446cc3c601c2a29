package netns

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

// root is the top of the checkout as seen from this package's directory, where go test runs.
const root = "../../.."

// script makes and removes the namespaces.
const script = root + "/scripts/netns.sh"

// mark begins the names of all that a run leaves on the machine: namespaces and its directory. The pid follows.
const mark = "ssmnet-e2e-"

// scratch is the run's directory: programs in bin, and the state of each network. It is short, since a unix socket's
// path is, and open to all, since one test is an ordinary user's.
var scratch string

// full says that the tests do everything as often as their figures are quoted for (scripts/test.sh --full), which takes 20
// minutes. Otherwise they do the same, fewer times.
var full = os.Getenv("SSMNET_FULL") != ""

// testsPerCPU is how many tests run at once on each processor, unless -parallel says: most of a test is waiting. What fills
// the machine or is quoted with its figures is not parallel.
const testsPerCPU = 2

// times is how often a test does something.
func times(often, inFull int) int {
	if full {
		return inFull
	}
	return often
}

// The main thread, which never ends, stays where it is: were a test to take it into a namespace (Host.in), the process
// would count as one of those there, and end with them.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if who := os.Getenv(attemptsOf); who != "" {
		return confinedAttempts(who)
	}
	if !space.IsRoot() {
		return m.Run() // without those that need it
	}
	if err := removeLeftovers(); err != nil {
		fmt.Fprintln(os.Stderr, "what an earlier run left cannot be removed:", err)
		return 1
	}
	scratch = filepath.Join(os.TempDir(), fmt.Sprint(mark, os.Getpid()))
	defer os.RemoveAll(scratch)
	if err := build(filepath.Join(scratch, "bin")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := flag.Set("test.parallel", strconv.Itoa(testsPerCPU*runtime.NumCPU())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build makes the programs as they are shipped.
func build(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/kdc", "./cmd/ssm")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=runtimesecret")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", c.Args, err, out)
	}
	return nil
}

// removeLeftovers takes down the networks, and removes the directories, of runs whose process is gone. Of runs that begin
// at once, one does.
func removeLeftovers() error {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), mark+"lock"), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return fmt.Errorf("ip netns list: %w (install iproute2)", err)
	}
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), mark+"*"))
	if err != nil {
		return err
	}
	names := strings.Fields(string(out))
	for _, d := range dirs {
		names = append(names, filepath.Base(d)+"-")
	}
	for prefix, pid := range runsAmong(names) {
		if _, err := os.Stat(fmt.Sprint("/proc/", pid)); err == nil {
			continue
		}
		if out, err := exec.Command(script, "down", prefix).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", prefix, err, out)
		}
		if err := os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprint(mark, pid))); err != nil {
			return err
		}
	}
	return nil
}

// runsAmong finds in names the prefixes of runs of this package, with their pids.
func runsAmong(names []string) map[string]int {
	runs := map[string]int{}
	pattern := regexp.MustCompile(`^` + mark + `([0-9]+)-`)
	for _, name := range names {
		if found := pattern.FindStringSubmatch(name); found != nil {
			if pid, err := strconv.Atoi(found[1]); err == nil {
				runs[found[0]] = pid
			}
		}
	}
	return runs
}

func TestRunsAmong(t *testing.T) {
	names := strings.Fields("ssmnet-e2e-12-1-br (id: 0) ssmnet-e2e-12-1-h1 ssmnet-e2e-12-3-kdc ssmnet-e2e-7- ssmnet-demo-12-h1 h1 ssmnet-e2e-x-1-h1")
	got, want := runsAmong(names), map[string]int{"ssmnet-e2e-12-": 12, "ssmnet-e2e-7-": 7}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
