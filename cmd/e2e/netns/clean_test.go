package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within is how long after the end of `ssm up` the first packet may take to be answered: less than the 10 s after which a
// survivor finds out by itself that the other side has gone.
const within = 8 * time.Second

// everything is the footprint of the host, its unix sockets, and every sysctl of the network. With an SSM running, two
// runs are told apart by nothing in it.
func (h *Host) everything(t *testing.T) string {
	t.Helper()
	all := h.footprint(t) + "# unix sockets\n" + h.Run(t, "ss", "-Hlnx") + "# sysctls\n"
	h.in(t, func() {
		err := filepath.WalkDir("/proc/sys/net", func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			value, err := os.ReadFile(name)
			if err == nil { // some are for writing, or have no value yet
				all += name + " = " + strings.TrimSpace(string(value)) + "\n"
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	return aPid.ReplaceAllString(ofARun.ReplaceAllString(all, "$1"), "a process")
}

var (
	// ofARun is what differs from run to run: inodes, the length of a queue, how wide all that makes the columns, how
	// many connections there were.
	ofARun = regexp.MustCompile(`(?m)(\.sock) [0-9]+ *\* 0 *$|UNCONN [0-9]+ +| +$|nf_conntrack_count = [0-9]+`)
	aPid   = regexp.MustCompile(`(?m)^[0-9]+$`)
)

// same checks that two looks at a host saw the same.
func same(t *testing.T, what, before, after string) {
	t.Helper()
	for _, line := range without(before, after) {
		t.Errorf("%s: before and not now: %s", what, line)
	}
	for _, line := range without(after, before) {
		t.Errorf("%s: now and not before: %s", what, line)
	}
}

// answered sends datagrams to an echo until one comes back, and gives how long that took.
func answered(t *testing.T, from, to *Host, port int) time.Duration {
	t.Helper()
	began := time.Now()
	conn := from.mustDial(t, "udp", to.at(4, port))
	defer conn.Close()
	b := make([]byte, 16)
	for time.Since(began) < patience {
		conn.Write([]byte("are you there?")) // an error is that of an earlier one
		conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(b); err == nil {
			return time.Since(began)
		}
	}
	t.Fatalf("%s: no answer from %s within %v", from.Name, to.Name, patience)
	return 0
}

// TestKilledOften: nothing is left behind after the next up, and traffic runs again in time, whichever side sends first.
// In the end `ssm down`, with no SSM there, leaves nothing at all.
func TestKilledOften(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]struct {
		prepare []string // commands of ip
		flags   []string
	}{
		"an interface of its own": {},
		"an interface that was there": {
			[]string{"tuntap add tun9 mode tun", "link set tun9 mtu 1400 txqueuelen 99 up", "addr add 10.9.0.1/24 dev tun9",
				"addr add fd09::1/64 dev tun9 nodad", "route add 10.8.0.0/16 via 10.9.0.2", "route add fd08::/48 dev tun9"},
			[]string{"--interface", "tun9"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newOverlay(t, 2, grant("tag:all", "tag:all", "udp/7000"))
			a, b := n.Hosts[0], n.Hosts[1]
			b.SSM(t, "down")
			for _, line := range setting.prepare {
				b.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
			}
			up := append([]string{"up"}, setting.flags...)
			before := b.everything(t)
			b.SSM(t, up...)
			a.echo(t, 4, 7000)
			echo := b.echo(t, 4, 7000)
			running := b.everything(t)
			answered(t, a, b, 7000)
			var took [2][]time.Duration
			for i := range times(6, 100) {
				b.killAll(t)
				b.SSM(t, up...)
				from, to := a, b
				if i%2 == 1 {
					from, to = b, a
				}
				took[i%2] = append(took[i%2], answered(t, from, to, 7000))
				same(t, fmt.Sprintf("kill %d", i), running, b.everything(t))
			}
			for side, who := range []string{"the survivor", "the restarted"} {
				slices.Sort(took[side])
				worst := took[side][len(took[side])-1]
				t.Logf("%s sends first, %d times: answered after %v in the median, %v at worst", who, len(took[side]),
					took[side][len(took[side])/2].Round(time.Millisecond), worst.Round(time.Millisecond))
				if worst > within {
					t.Errorf("%s sends first: answered after %v, want %v", who, worst, within)
				}
			}
			echo.Close()
			b.killAll(t)
			words := "not up"
			if setting.prepare != nil {
				words = "put back"
			}
			succeeds(t, b.TrySSM(t, "down"), words)
			succeeds(t, b.TrySSM(t, "down"), "no SSM runs")
			same(t, "down after a kill", before, b.everything(t))
		})
	}
}

// TestKilledWhileStarting: at whatever moment `ssm up` and what it has started are killed, down puts back everything.
func TestKilledWhileStarting(t *testing.T) {
	t.Parallel()
	_, h := newEnrolled(t)
	h.Run(t, "ip", "tuntap", "add", "tun9", "mode", "tun")
	h.Run(t, "ip", "addr", "add", "10.9.0.1/24", "dev", "tun9")
	h.Run(t, "ip", "link", "set", "tun9", "up")
	before := h.everything(t)
	began := time.Now()
	h.SSM(t, "up", "--interface", "tun9")
	whole := time.Since(began)
	h.SSM(t, "down")
	same(t, "down", before, h.everything(t))
	left := 0
	for i := range times(10, 100) {
		flags := []string{program("ssm"), "--dir", h.dir, "up", "--interface", []string{"tun9", "tun0"}[i%2]}
		p := h.Start(t, flags...)
		time.Sleep(rand.N(whole)) // a moment like any other
		h.killAll(t)
		p.Wait(t, started)
		if _, err := os.Lstat(filepath.Join(h.dir, "undo")); err == nil {
			left++
		}
		if r := h.TrySSM(t, "down"); r.Code != 0 {
			t.Fatal(r)
		}
		same(t, fmt.Sprintf("kill %d", i), before, h.everything(t))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of the kills, within %v, came while something was on record", left, whole.Round(time.Millisecond))
}

// killAll ends every program on the host without a chance to put anything back, and waits until all are gone.
func (h *Host) killAll(t *testing.T) {
	t.Helper()
	eventually(t, started, "all programs are gone", func() error {
		out, err := exec.Command("ip", "netns", "pids", h.space).Output()
		if err != nil {
			return err
		}
		pids := strings.Fields(string(out))
		for _, text := range pids {
			pid, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			if pid == os.Getpid() {
				return errors.New("the tests themselves are there")
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		if len(pids) > 0 {
			return fmt.Errorf("pids %q", pids)
		}
		return nil
	})
}

// descriptors counts those of a process.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestDescriptorsStayFlat: neither sessions cost an SSM or the KDC a descriptor, nor an SSM that comes and goes its peer
// or the KDC. Connections that are just being renewed may come on top.
func TestDescriptorsStayFlat(t *testing.T) {
	t.Parallel()
	n := newOverlay(t, 2, grant("tag:all", "tag:all", "udp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	a.echo(t, 4, 7000)
	b.echo(t, 4, 7000)
	answered(t, a, b, 7000)
	pids := map[string]int{"a": a.daemon(t), "b": b.daemon(t), "the KDC": n.KDC.serving.cmd.Process.Pid}
	before := map[string]int{}
	for who, pid := range pids {
		before[who] = descriptors(t, pid)
	}
	flat := func(after string) {
		t.Helper()
		for who, pid := range pids {
			eventually(t, started, after+": as many descriptors as before", func() error {
				if now := descriptors(t, pid); now > before[who] {
					return fmt.Errorf("%s has %d descriptors, %d before", who, now, before[who])
				}
				return nil
			})
		}
	}
	for range times(20, 100) {
		a.SSM(t, "session", "close", b.Name)
		answered(t, a, b, 7000)
	}
	flat("sessions")
	delete(pids, "b")
	for i := range times(5, 50) {
		b.SSM(t, "down")
		b.SSM(t, "up")
		if i%2 == 0 {
			answered(t, a, b, 7000)
		} else {
			answered(t, b, a, 7000)
		}
	}
	flat("up and down")
	t.Logf("descriptors: %v", before)
}
