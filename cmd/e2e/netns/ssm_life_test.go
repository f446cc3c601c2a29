package netns

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// refuses checks that a command said no with this exit code, in one line that begins with the program's name and has
// all the words in it.
func refuses(t *testing.T, r Result, code int, words ...string) {
	t.Helper()
	who := "ssm"
	if strings.Contains(r.Command, program("kdc")+" ") {
		who = "kdc"
	}
	line, rest, ended := strings.Cut(r.Stderr, "\n")
	if r.Code != code || r.Stdout != "" || !ended || rest != "" || !strings.HasPrefix(line, who+": ") {
		t.Errorf("want exit %d and one line on standard error from %s, got %v", code, who, r)
	}
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("want %q in %v", w, r)
		}
	}
}

// succeeds checks that a command did, with one line of result that has all the words in it.
func succeeds(t *testing.T, r Result, words ...string) {
	t.Helper()
	if r.Code != 0 || strings.Count(r.Stdout, "\n") != 1 || r.Stderr != "" {
		t.Errorf("want exit 0 and one line on standard output, got %v", r)
	}
	for _, w := range words {
		if !strings.Contains(r.Stdout, w) {
			t.Errorf("want %q in %v", w, r)
		}
	}
}

// newEnrolled is a network whose KDC serves, with one host enrolled and down.
func newEnrolled(t *testing.T) (*Net, *Host) {
	t.Helper()
	n := newNet(t, 1)
	n.KDC.Do(t, "init", "--address", "10.77.0.1")
	n.KDC.Serve(t)
	h := n.Hosts[0]
	h.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, h))
	return n, h
}

func TestUpAndDown(t *testing.T) {
	t.Parallel()
	_, h := newEnrolled(t)
	h.leavesNothing(t, func() {
		refuses(t, h.TrySSM(t, "status"), 3, "not running", "ssm --dir "+h.dir+" up")
		succeeds(t, h.TrySSM(t, "down"), "not up")
		succeeds(t, h.TrySSM(t, "up"), "up: h1 on tun0", h.V4.String(), h.V6.String(), "10.77.0.1:7600")
		once := h.footprint(t)
		succeeds(t, h.TrySSM(t, "up"), "already up: h1 on tun0", h.V4.String(), h.V6.String(), "10.77.0.1:7600")
		refuses(t, h.TrySSM(t, "run"), 1, "runs on "+h.dir+" already")
		if more := without(h.footprint(t), once); more != nil {
			t.Errorf("the second up adds %q", more)
		}
		for _, check := range []string{"live", "ready"} {
			if out := h.SSM(t, "status", "--check", check); out != "" {
				t.Errorf("status --check %s says %q", check, out)
			}
		}
		succeeds(t, h.TrySSM(t, "down"), "down")
		succeeds(t, h.TrySSM(t, "down"), "not up")
	})
}

// TestUpAtOnce: of several 'ssm up' at once one starts the SSM, and all say that it is up.
func TestUpAtOnce(t *testing.T) {
	t.Parallel()
	_, h := newEnrolled(t)
	for range times(3, 20) {
		var ups sync.WaitGroup
		for range 8 {
			ups.Go(func() { succeeds(t, h.TrySSM(t, "up"), "up: ") })
		}
		ups.Wait()
		h.SSM(t, "down")
	}
}

// TestRunAndTerminate: as a service manager does it. A hangup of the terminal that it was started from ends nothing.
func TestRunAndTerminate(t *testing.T) {
	t.Parallel()
	_, h := newEnrolled(t)
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		h.leavesNothing(t, func() {
			p := h.Start(t, program("ssm"), "--dir", h.dir, "run")
			eventually(t, started, "ssm run is ready", func() error {
				if r := h.TrySSM(t, "status", "--check", "ready"); r.Code != 0 {
					return errors.New(r.String())
				}
				return nil
			})
			p.Signal(t, syscall.SIGHUP)
			if r := p.End(t, end); r.Code != 0 || !strings.Contains(r.Stderr, "read log_level again") {
				t.Error(r)
			}
		})
	}
}

// TestUpRefused: what up and run say when they cannot, alike, leaving nothing behind.
func TestUpRefused(t *testing.T) {
	t.Parallel()
	_, h := newEnrolled(t)
	ssm := []string{program("ssm"), "--dir", h.dir}
	const noLink = "CAP_NET_ADMIN"
	tests := []struct {
		name    string
		prepare func(t *testing.T)
		command []string
		code    int
		words   []string
	}{
		{"not enrolled", notEnrolled(h), ssm, 1, []string{"not enrolled", "kdc peer add", "enrol TOKEN"}},
		{"loose identity", loose(h), ssm, 1, []string{"identity is readable by others", "0644", "chmod 600 " + h.dir}},
		{"malformed identity", garbled(h), ssm, 1, []string{"malformed identity", "enrol"}},
		{"malformed record of changes", misrecorded(h), ssm, 1, []string{h.dir + "/undo:1:", "malformed", "by hand"}},
		{"port taken", portTaken(h), ssm, 1, []string{"UDP port 7601", "--listen"}},
		{"interface is another's TUN", linkTaken(h, "tuntap", "mode", "tun"), ssm, 1, []string{"tun0 exists", "--interface"}},
		{"interface is no TUN", linkTaken(h, "link", "type", "bridge"), ssm, 1, []string{"tun0 exists", "--interface"}},
		{"ordinary user", ownedBy(h, nobody), append(as(nobody), ssm...), 1, []string{noLink, "sudo"}},
		{"without the capability", nothing, append([]string{"setpriv", "--bounding-set=-net_admin"}, ssm...), 1,
			[]string{noLink}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.prepare(t)
			h.leavesNothing(t, func() {
				refuses(t, h.Try(t, append(tt.command, "up")...), tt.code, tt.words...)
			})
			h.leavesNothing(t, func() {
				refuses(t, h.Try(t, append(tt.command, "run")...), tt.code, tt.words...)
			})
		})
	}
	succeeds(t, h.TrySSM(t, "up")) // each of them was the only thing in the way
}

// nobody is an ordinary user's number.
const nobody = 65534

func as(user int) []string {
	id := strconv.Itoa(user)
	return []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups"}
}

func nothing(*testing.T) {}

// The preparations undo themselves when their test ends.

func notEnrolled(h *Host) func(*testing.T) {
	return func(t *testing.T) { away(t, filepath.Join(h.dir, "identity")) }
}

func loose(h *Host) func(*testing.T) {
	return func(t *testing.T) { chmod(t, filepath.Join(h.dir, "identity"), 0o644) }
}

// chmod changes a file's mode from 0600 until the test ends.
func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(name, 0o600); err != nil {
			t.Error(err)
		}
	})
}

func garbled(h *Host) func(*testing.T) {
	return func(t *testing.T) { replace(t, filepath.Join(h.dir, "identity"), []byte("{\"schema\": 1}\n")) }
}

// misrecorded puts what is no record of changes where a killed SSM would have left one.
func misrecorded(h *Host) func(*testing.T) {
	return func(t *testing.T) {
		name := filepath.Join(h.dir, "undo")
		write(t, name, "{\"kind\": 1}\n", 0o600)
		t.Cleanup(func() { os.Remove(name) })
		refuses(t, h.TrySSM(t, "down"), 1, name+":1:", "malformed", "by hand")
	}
}

// replace gives a file other contents until the test ends.
func replace(t *testing.T, name string, contents []byte) {
	t.Helper()
	kept, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name, string(contents), 0o600)
	t.Cleanup(func() { write(t, name, string(kept), 0o600) })
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func portTaken(h *Host) func(*testing.T) {
	return func(t *testing.T) {
		var conn net.PacketConn
		var err error
		h.in(t, func() { conn, err = net.ListenPacket("udp", ":7601") })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// linkTaken makes another interface named tun0.
func linkTaken(h *Host, object string, kind ...string) func(*testing.T) {
	return func(t *testing.T) {
		h.Run(t, append([]string{"ip", object, "add", "tun0"}, kind...)...)
		t.Cleanup(func() { h.Run(t, "ip", "link", "del", "tun0") })
	}
}

// ownedBy gives the state directory to a user, so that only the privilege is missing.
func ownedBy(h *Host, user int) func(*testing.T) {
	own := func(t *testing.T, user int) {
		h.Run(t, "chown", "-R", strconv.Itoa(user)+":"+strconv.Itoa(user), h.dir)
	}
	return func(t *testing.T) {
		own(t, user)
		t.Cleanup(func() { own(t, 0) })
	}
}

// TestUpWithoutKDC: up says so in time, and the SSM goes on trying until there is one.
func TestUpWithoutKDC(t *testing.T) {
	t.Parallel()
	n, h := newEnrolled(t)
	n.KDC.Stop(t, syscall.SIGKILL)
	h.leavesNothing(t, func() {
		r := h.TrySSM(t, "up", "--timeout", "3s")
		refuses(t, r, 3, "10.77.0.1:7600", "goes on trying")
		if r.Took > 12*time.Second { // it would be 15 s if nobody said
			t.Errorf("not in time: %v", r)
		}
		succeeds(t, h.TrySSM(t, "up"), "already up: h1 on tun0, not ready", "10.77.0.1:7600")
		h.SSM(t, "status", "--check", "live")
		refuses(t, h.TrySSM(t, "status", "--check", "ready"), 3, "not ready")
		n.KDC.Serve(t)
		eventually(t, patience, "the SSM finds the KDC", func() error {
			if r := h.TrySSM(t, "status", "--check", "ready"); r.Code != 0 {
				return errors.New(r.String())
			}
			return nil
		})
		h.Run(t, "ip", "addr", "show", "dev", "tun0", "to", h.V4.String())
		succeeds(t, h.TrySSM(t, "down"), "down")
	})
}

// TestUpWithWrongKey: an identity whose key the KDC no longer takes, because the host was enrolled anew elsewhere.
func TestUpWithWrongKey(t *testing.T) {
	t.Parallel()
	n, h := newEnrolled(t)
	token := strings.TrimSpace(n.KDC.Do(t, "peer", "token", h.Name))
	other := &Host{Name: h.Name, space: h.space, dir: h.dir + "-anew"}
	other.SSM(t, "enrol", token)
	h.leavesNothing(t, func() {
		refuses(t, h.TrySSM(t, "up", "--timeout", "3s"), 3, "10.77.0.1:7600", "wrong or unknown key")
		succeeds(t, h.TrySSM(t, "down"), "down")
	})
	succeeds(t, other.TrySSM(t, "up"), "up: h1")
}
