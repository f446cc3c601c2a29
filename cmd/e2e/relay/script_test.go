package relay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ssmnet/cmd/e2e/space"
)

// root is the top of the checkout as seen from this package's directory, where go test runs.
const root = "../../.."

// scripted is a network of scripts/netns.sh with two hosts, and cmd/e2e/impair in the cable of the first.
type scripted struct {
	prefix         string
	impair, socket string
	relay          *exec.Cmd
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	space.Root(t)
	dir := t.TempDir()
	n := &scripted{impair: filepath.Join(dir, "impair"), socket: filepath.Join(dir, "s")}
	n.prefix = fmt.Sprintf("ssmnet-e2e-%d-relay-", os.Getpid()) // of the kind that package netns removes if we are killed
	do(t, "go", "build", "-o", n.impair, "../impair")
	script := root + "/scripts/netns.sh"
	t.Cleanup(func() { do(t, script, "down", n.prefix) })
	do(t, script, "up", "2", n.prefix)
	do(t, script, "relay", n.prefix, "h1")
	n.relay = exec.Command("ip", n.in("rh1", n.impair, "run", "--between", "host,bridge", "--control", n.socket)...)
	start(t, n.relay, "ready")
	return n
}

// in are the arguments of ip that run a command in a namespace. The command then has ip's pid.
func (n *scripted) in(host string, command ...string) []string {
	return append([]string{"netns", "exec", n.prefix + host}, command...)
}

// ping fails where not all come back.
func (n *scripted) ping(address string) error {
	_, err := try("ip", n.in("h1", "ping", "-n", "-q", "-c", "5", "-i", "0.01", "-W", "0.3", address)...)
	return err
}

// TestScript: the relay as scripts use it.
func TestScript(t *testing.T) {
	n := newScripted(t)
	for _, address := range []string{"10.77.0.12", "10.77.0.1", "fd77::12", "fd77::1"} {
		if err := n.ping(address); err != nil {
			t.Errorf("through the relay: %v", err)
		}
	}
	do(t, n.impair, "set", "--control", n.socket, "--way", "forward", "--only", "icmp", "--loss", "1")
	if n.ping("10.77.0.12") == nil || n.ping("fd77::12") != nil {
		t.Error("only icmp of IPv4 was to be lost")
	}
	var s Status
	if err := json.Unmarshal([]byte(do(t, n.impair, "show", "--control", n.socket)), &s); err != nil {
		t.Fatal(err)
	}
	if s.Forward.Counters.Lost != 5 || s.Backward.Counters.Lost != 0 || s.Forward.Settings.Only != pinging {
		t.Errorf("show: %+v", s)
	}
	if err := n.relay.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := n.relay.Wait(); err != nil {
		t.Errorf("the relay ended with %v", err)
	}
	if _, err := os.Stat(n.socket); err == nil {
		t.Error("the socket is left")
	}
	if n.ping("fd77::12") == nil {
		t.Error("without a relay something still passes")
	}
}

// start starts a program and waits until it has said a word.
func start(t *testing.T, c *exec.Cmd, word string) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait() // an error where the test has waited already
	})
	heard := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), word) {
				heard <- true
			}
		}
		heard <- false
	}()
	select {
	case ok := <-heard:
		if !ok {
			t.Fatalf("%v ended before %q", c.Args, word)
		}
	case <-time.After(patience):
		t.Fatalf("%v did not say %q", c.Args, word)
	}
}

// do runs a command that must succeed, and gives its output.
func do(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return string(out), err
}
