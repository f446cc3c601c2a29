package netns

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The README's walk-through, typed as it stands there. Each of its hosts is a network namespace and a mount namespace of
// its own: private are /etc, /run, /usr/local and /var/lib, so that install.sh, `kdc init` and all that follows find an
// empty machine. What is not here, systemd and ssh, is played by testdata/walk.
//
//	kdc           ana-laptop    web-1         gw ======= printer      namespaces
//	10.77.0.1     10.77.0.11    10.77.0.12    10.77.0.13
//	   |              |             |         192.168.7.1  192.168.7.20
//	===+==============+=============+============+===

// step is one block of commands in the README.
type step struct {
	host    string
	refused bool // its last command must fail
	script  string
	want    string // what it prints; none: whatever it does
}

// walkThrough reads the steps: ```sh blocks that begin with "# on HOST", each with the ```text block behind it.
func walkThrough(readme string) (steps []step) {
	block := regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$")
	first := regexp.MustCompile(`^# on ([a-z0-9-]+)(, refused)?\n`)
	last := 0 // where the block before ended
	for _, at := range block.FindAllStringSubmatchIndex(readme, -1) {
		kind, text := readme[at[2]:at[3]], readme[at[4]:at[5]]
		between := strings.TrimSpace(readme[last:at[0]])
		last = at[1]
		switch head := first.FindStringSubmatch(text); {
		case kind == "sh" && head != nil:
			steps = append(steps, step{host: head[1], refused: head[2] != "", script: text})
		case kind == "text" && len(steps) > 0 && between == "":
			steps[len(steps)-1].want = text
		}
	}
	return steps
}

// changing are the words of an output that are others each time, and what stands for them.
var changing = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\bfd[0-9a-f]*:[0-9a-f:]*(/\d+)?`), "ULA"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "ID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT[0-9:]+Z`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(µs|ms|s|m|h)\b`), "DURATION"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// printed compares an output with what the README has; there a line "..." is any number of lines, and "…" any text.
func printed(want, got string) bool {
	for _, c := range changing {
		want, got = c.pattern.ReplaceAllString(want, c.word), c.pattern.ReplaceAllString(got, c.word)
	}
	pattern := regexp.QuoteMeta(want)
	pattern = strings.ReplaceAll(pattern, "…", ".*")
	pattern = strings.ReplaceAll(pattern, `\.\.\.`+"\n", `(?s:(.*\n)?)`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(got)
}

// machine is a host with files of its own.
type machine struct {
	*Host
	home string
	pid  int // of the process that keeps its mounts
}

// newMachine gives a host its files. Programs that the walk-through needs besides are found first in PATH.
func newMachine(t *testing.T, h *Host, name string, homes string) *machine {
	t.Helper()
	m := &machine{Host: h, home: filepath.Join(homes, name)}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.home, 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"scripts": filepath.Join(top, "scripts"), "bin": filepath.Join(scratch, "bin"),
	} {
		if err := os.Symlink(to, filepath.Join(m.home, link)); err != nil {
			t.Fatal(err)
		}
	}
	const mounts = `set -e
mount -t tmpfs tmpfs /mnt; cp -a /etc/. /mnt; mount --bind /mnt /etc; mount -t tmpfs tmpfs /mnt
for d in /run /usr/local /var/lib; do mount -t tmpfs tmpfs $d; done
mkdir -p /etc/systemd/system /run/systemd/system /usr/local/sbin
cp "$0"/* /usr/local/sbin
echo '10.77.0.1 kdc.example.net' >>/etc/hosts
echo there
exec sleep infinity`
	keeper := h.Start(t, "unshare", "--mount", "--propagation", "private", "sh", "-c", mounts,
		filepath.Join(top, "cmd/e2e/netns/testdata/walk"))
	m.pid = keeper.cmd.Process.Pid
	eventually(t, started, name+" has its files", func() error {
		if keeper.stdout.String() != "there\n" {
			return fmt.Errorf("%q %q", keeper.stdout.String(), keeper.stderr.String())
		}
		return nil
	})
	return m
}

// typed runs a block as somebody who is root there types it, and gives what it printed.
func (m *machine) typed(t *testing.T, s step) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", "-t", fmt.Sprint(m.pid), "-m", "-n", "--wd="+m.home, "bash", "-e", "-c", s.script)
	c.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
	c.WaitDelay = time.Second // for what was left in the background with the output open
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestWalkThrough(t *testing.T) {
	t.Parallel()
	steps := walkThrough(string(read(t, root+"/README.md")))
	n := newNet(t, 4)
	machines := map[string]*machine{}
	for i, name := range []string{"ana-laptop", "web-1", "gw", "printer"} {
		machines[name] = newMachine(t, n.Hosts[i], name, n.dir)
	}
	machines["kdc"] = newMachine(t, n.KDC.Host, "center", n.dir)
	gw, printer := machines["gw"], machines["printer"]
	printer.Run(t, "ip", "link", "del", "eth0")
	gw.Run(t, "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(printer.pid))
	gw.Run(t, "ip", "addr", "add", "192.168.7.1/24", "dev", "lan0")
	gw.Run(t, "ip", "link", "set", "lan0", "up")
	printer.Run(t, "ip", "addr", "add", "192.168.7.20/24", "dev", "eth0")
	printer.Run(t, "ip", "link", "set", "eth0", "up")
	for _, name := range []string{"web-1", "printer"} {
		machines[name].serveWeb(t, "this is "+name+"\n")
	}
	visited := map[string]bool{}
	for i, s := range steps {
		m := machines[s.host]
		if m == nil {
			t.Fatalf("step %d is on %s, which is no host", i+1, s.host)
		}
		visited[s.host] = true
		out, err := m.typed(t, s)
		if (err != nil) != s.refused || s.want != "" && !printed(s.want, out) {
			t.Fatalf("step %d, %v, printed\n%s\nof\n%s\nThe README has\n%s", i+1, err, out, s.script, s.want)
		}
	}
	if len(visited) != len(machines) {
		t.Errorf("the walk-through visits %v of %d hosts", visited, len(machines))
	}
}

// serveWeb answers on port 80 of every address of the host.
func (m *machine) serveWeb(t *testing.T, text string) {
	t.Helper()
	m.in(t, func() {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			t.Error(err)
			return
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
	})
}

func TestPrinted(t *testing.T) {
	for _, tt := range []struct {
		want, got string
		same      bool
	}{
		{"a\n", "a\n", true},
		{"a\n", "a\nb\n", false},
		{"...\nb\n...\n", "a\nb\n", true},
		{"...\nb\n", "a\nb\nc\n", false},
		{"...\na\n...\n", "x a\n", false},
		{"p  up…\n", "p up for 3 s\n", true},
		{"dies at 2026-11-25T19:36:44Z, fd5e:d0c::1, 3.1 ms\n", "dies at 2027-01-01T00:00:00Z, fd00:1:2::1, 17 ms\n", true},
		{"a.c\n", "abc\n", false},
	} {
		if printed(tt.want, tt.got) != tt.same {
			t.Errorf("want %q, got %q: same is %t", tt.want, tt.got, !tt.same)
		}
	}
}
