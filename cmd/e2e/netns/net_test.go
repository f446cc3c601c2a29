package netns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ssmnet/cmd/e2e/space"
)

// Net is one network of scripts/netns.sh: a KDC and hosts on one Ethernet.
type Net struct {
	prefix string
	dir    string // state directories of its programs
	KDC    *KDC
	Bridge *Host // where the cables meet
	Hosts  []*Host
}

// Host is one namespace.
type Host struct {
	Name   string // in scripts/netns.sh, and as a peer
	space  string // name of the namespace
	dir    string // state directory of its program
	V4, V6 netip.Addr
}

// nets counts the networks of this run.
var nets atomic.Int32

// newNet makes a network with some hosts and nothing running in it.
func newNet(t *testing.T, hosts int) *Net {
	t.Helper()
	space.Root(t)
	n := &Net{prefix: fmt.Sprint(mark, os.Getpid(), "-", nets.Add(1), "-")}
	n.dir = filepath.Join(scratch, strings.TrimSuffix(n.prefix[len(mark):], "-"))
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(n.dir) })
	netns(t, "up", fmt.Sprint(hosts), n.prefix)
	t.Cleanup(func() { netns(t, "down", n.prefix) })
	t.Cleanup(func() {
		if t.Failed() {
			n.showLogs(t)
		}
	})
	n.KDC = &KDC{Host: n.host("kdc")}
	n.Bridge = n.host("br")
	for i := range hosts {
		n.Hosts = append(n.Hosts, n.host(fmt.Sprint("h", i+1)))
	}
	return n
}

func (n *Net) host(name string) *Host {
	return &Host{Name: name, space: n.prefix + name, dir: filepath.Join(n.dir, name)}
}

// netns runs scripts/netns.sh.
func netns(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(script, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", script, strings.Join(args, " "), err, out)
	}
}

// showLogs adds the end of each daemon's log to a failed test's output.
func (n *Net) showLogs(t *testing.T) {
	const most = 6000
	logs, err := filepath.Glob(filepath.Join(n.dir, "*", "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s ends with:\n%s", strings.TrimPrefix(name, n.dir), text[max(0, len(text)-most):])
	}
}

// in runs f on a thread inside the host's namespace. What f dials or opens there serves any goroutine afterwards.
func (h *Host) in(t *testing.T, f func()) {
	t.Helper()
	named, err := os.Open("/run/netns/" + h.space)
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	if err := space.In(named, func() error { f(); return nil }); err != nil {
		t.Fatalf("enter %s: %v", h.space, err)
	}
}

// address of the host inside the overlay, of family 4 or 6.
func (h *Host) address(family int) string {
	if family == 4 {
		return h.V4.String()
	}
	return h.V6.String()
}

// pollPause is how long a condition is left alone between two looks.
const pollPause = 10 * time.Millisecond

// eventually waits until ready returns nil, and fails with its last error after limit.
func eventually(t *testing.T, limit time.Duration, what string, ready func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v: %v", what, limit, err)
		}
		time.Sleep(pollPause)
	}
}
