package netns

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// hostsKept is how long Go's resolver goes on with what it has read of /etc/hosts.
const hostsKept = 5 * time.Second

// TestNamedKDC: an SSM that is confined looks its KDC's name up, and goes on with the address that it had when the name
// does not resolve any more.
func TestNamedKDC(t *testing.T) {
	t.Parallel()
	const name = "kdc.example.net"
	n := newNet(t, 1)
	h, k := n.Hosts[0], n.KDC
	hosts := filepath.Join(n.dir, "hosts")
	write(t, hosts, "10.77.0.1 "+name+"\n", 0o644)
	// `ip netns exec` gives each command mounts of its own.
	named := func(command ...string) []string {
		return append([]string{"sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts, program("ssm"), "--dir", h.dir}, command...)
	}
	ready := func() error {
		if r := h.TrySSM(t, "status", "--check", "ready"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	}
	k.Do(t, "init", "--address", name)
	k.Serve(t)
	h.Run(t, named("enrol", "--token-file", k.Peer(t, h))...)
	run := h.Start(t, named("run")...)
	eventually(t, started, "the name is looked up", ready)

	if err := os.Truncate(hosts, 0); err != nil {
		t.Fatal(err)
	}
	k.Stop(t, syscall.SIGKILL)
	eventually(t, patience, "the SSM misses the KDC", func() error {
		if ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	time.Sleep(hostsKept)
	k.Serve(t)
	eventually(t, patience, "the SSM finds it without the name", ready)
	if r := run.End(t, syscall.SIGTERM); r.Code != 0 {
		t.Error(r)
	}
}
