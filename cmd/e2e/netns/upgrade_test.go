package netns

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestUpgrade: an SSM whose program was replaced is restarted, as systemd does it, under a flow of datagrams and a TCP
// connection that fills the tunnel. TCP goes on, byte for byte; of datagrams are lost those of the moment without an
// interface and no more. A KDC is restarted likewise, and nothing is lost.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("h1", "h2", "udp/*", "tcp/7001"))
	a, b := n.Hosts[0], n.Hosts[1]
	a.SSM(t, "down")
	exe := filepath.Join(n.dir, "ssm")
	install := func() { // as scripts/install.sh does
		t.Helper()
		text := read(t, program("ssm"))
		write(t, exe+".new", string(text), 0o755)
		if err := os.Rename(exe+".new", exe); err != nil {
			t.Fatal(err)
		}
	}
	run := func() *Process {
		t.Helper()
		p := a.Start(t, exe, "--dir", a.dir, "run")
		eventually(t, started, "ssm run", func() error {
			if r := a.TrySSM(t, "status", "--check", "ready"); r.Code != 0 {
				return errors.New(r.String())
			}
			return nil
		})
		return p
	}
	install()
	ssm := run()
	f := startFlow(t, a, b, 7000)
	tcp := saturate(t, a, b, 7001)
	for range times(3, 20) {
		install()
		if r := ssm.End(t, syscall.SIGTERM); r.Code != 0 {
			t.Error(r)
		}
		ssm = run()
		f.runs(t)
	}
	f.end()
	longest, lost := f.gap()
	t.Logf("restarted SSM: %d of %d datagrams lost, the longest outage %v", lost, f.sent, time.Duration(longest)*beat)
	if outage := time.Duration(longest) * beat; outage > within {
		t.Errorf("an outage of %v, want %v at most", outage, within)
	}
	if tcp.end(t) == 0 {
		t.Error("nothing went over TCP")
	}

	f = startFlow(t, a, b, 7002)
	for range times(2, 5) {
		if r := n.KDC.Stop(t, syscall.SIGTERM); r.Code != 0 {
			t.Error(r)
		}
		n.KDC.Serve(t)
		f.runs(t)
		n.KDC.online(t, a, b)
	}
	f.lostNothing(t)
}

// gap is how many datagrams in a row were not answered at most, and how many in all. The flow has ended.
func (f *flow) gap() (longest, lost int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := 0
	for number := range f.sent {
		if f.back[number] {
			row = 0
			continue
		}
		row, lost = row+1, lost+1
		longest = max(longest, row)
	}
	return longest, lost
}
