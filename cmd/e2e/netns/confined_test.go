package netns

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/daemon"
)

// TestConfined: what the programs, as they are shipped, have left on each of their threads once they serve, when packets
// have flowed and threads have been added.
func TestConfined(t *testing.T) {
	n := newOverlay(t, 2, grant("*", "*", "*"))
	a, b := n.Hosts[0], n.Hosts[1]
	a.Run(t, "ping", "-c", "3", "-i", "0.05", b.V4.String())
	for who, want := range map[string]struct {
		pid  int
		caps string // permitted and effective
	}{
		"ssm run":   {daemonOf(t, a), fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN)},
		"kdc serve": {n.KDC.serving.cmd.Process.Pid, fmt.Sprintf("%016x", 0)},
	} {
		none := fmt.Sprintf("%016x", 0)
		lines := map[string]string{"CapInh": none, "CapPrm": want.caps, "CapEff": want.caps, "CapBnd": none, "CapAmb": none,
			"NoNewPrivs": "1", "Seccomp": "[02]"} // 2: under a unit with a filter
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", want.pid))
		if err != nil || len(threads) < 3 {
			t.Fatalf("%s has the threads %q, %v", who, threads, err)
		}
		for _, name := range threads {
			status, err := os.ReadFile(name)
			if errors.Is(err, os.ErrNotExist) {
				continue // it has ended
			}
			for line, value := range lines {
				if !regexp.MustCompile(`(?m)^` + line + `:\s+` + value + `$`).Match(status) {
					t.Errorf("%s, %s: want %s %s in\n%s", who, name, line, value, status)
				}
			}
		}
		t.Logf("%s, on each of %d threads: %v", who, len(threads), lines)
	}
	for _, log := range []string{a.Log(t), string(read(t, filepath.Join(n.KDC.dir, "kdc.log")))} {
		if strings.Count(log, "msg=confined") != 1 {
			t.Errorf("it should be said once what is in force:\n%s", log)
		}
	}
}

// daemonOf is the pid of the SSM of a host.
func daemonOf(t *testing.T, h *Host) int {
	t.Helper()
	var server *unix.Ucred
	conn, err := net.Dial("unix", filepath.Join(h.dir, "ssm.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { server, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	}
	if err != nil || server == nil {
		t.Fatal("who listens? ", err)
	}
	return int(server.Pid)
}

// attemptsOf names, in the environment, the daemon as which this binary confines itself and makes attempts.
const attemptsOf = "SSMNET_TEST_ATTEMPTS"

// outcome is what came of an attempt.
type outcome struct{ What, May, Before, After string }

// TestAttempts: this binary takes the rights of each daemon, with the function by which they do, and tries what the table
// has. Root is let do all of it, so that what is refused is refused by nothing else.
func TestAttempts(t *testing.T) {
	n := newNet(t, 2)
	table := map[string][]outcome{}
	for i, who := range []string{"ssm", "kdc"} {
		table[who] = outcomes(t, n.Hosts[i], who)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "| | root | ssm run | kdc serve |\n|---|---|---|---|\n")
	for i, ssm := range table["ssm"] {
		kdc := table["kdc"][i]
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", ssm.What, ssm.Before, ssm.After, kdc.After)
		for who, o := range map[string]outcome{"ssm": ssm, "kdc": kdc} {
			may, done := strings.Contains(o.May, who), o.After == o.Before
			if !let(o.Before) || let(o.After) != may || may && !done {
				t.Errorf("%s: %s: root %s, confined %s", who, o.What, o.Before, o.After)
			}
		}
	}
	t.Logf("what each may still do:\n%s", text.String())
}

// let reads a cell of the table.
func let(cell string) bool { return cell != "EPERM" && cell != "EACCES" }

// outcomes runs the attempts in a host's network, as a daemon.
func outcomes(t *testing.T, h *Host, who string) (list []outcome) {
	t.Helper()
	elsewhere := h.dir + "-elsewhere"
	for _, dir := range []string{h.dir, elsewhere} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Join(h.dir, "identity"), filepath.Join(h.dir, "foreign"), filepath.Join(elsewhere, "kept")} {
		write(t, name, "", 0o600)
	}
	if err := os.Chown(filepath.Join(h.dir, "foreign"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	stranger := h.Start(t, "sleep", "60").cmd.Process.Pid
	child := h.command([]string{os.Args[0]})
	child.Env = append(os.Environ(), attemptsOf+"="+who, "SSMNET_TEST_SCENE="+fmt.Sprint(h.dir, " ", elsewhere, " ", stranger))
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS | syscall.CLONE_NEWNS}
	return converse(t, child)
}

// converse lets the kernel forget what it can of files, once the child is confined, and reads the outcomes.
func converse(t *testing.T, child *exec.Cmd) (list []outcome) {
	t.Helper()
	var diagnosis strings.Builder
	child.Stderr = &diagnosis
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	answers := bufio.NewReader(out)
	if line, err := answers.ReadString('\n'); line != "confined\n" {
		t.Fatalf("it says %q, %v: %s", line, err, diagnosis.String())
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if err := json.NewDecoder(answers).Decode(&list); err != nil {
		t.Fatalf("%v: %s", err, diagnosis.String())
	}
	return list
}

// confinedAttempts is the child of TestAttempts.
func confinedAttempts(who string) (code int) {
	s, err := newScene()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	rights := map[string]func(dir, config string) daemon.Rights{"ssm": daemon.SSM, "kdc": daemon.KDC}[who](s.dir, "")
	list := s.attempts()
	results := make([]outcome, len(list))
	for i, a := range list {
		results[i] = outcome{What: a.what, May: a.may, Before: cell(a.try())}
	}
	daemon.Harden()
	if err := daemon.Confine(rights, slog.New(slog.DiscardHandler)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("confined")
	if _, err := io.ReadAll(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for i, a := range list {
		results[i].After = cell(a.try())
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		return 1
	}
	return 0
}

// cell is an outcome as the table has it.
func cell(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func newScene() (s *scene, err error) {
	words := strings.Fields(os.Getenv("SSMNET_TEST_SCENE"))
	s = &scene{dir: words[0], elsewhere: words[1], abstract: "@ssmnet-attempt-" + words[2]}
	if s.stranger, err = strconv.Atoi(words[2]); err != nil {
		return nil, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
		return nil, err
	}
	for _, name := range []string{s.abstract, filepath.Join(s.elsewhere, "socket")} {
		l, err := net.Listen("unix", name)
		if err != nil {
			return nil, err
		}
		s.sockets = append(s.sockets, l) // or they would be collected, and closed
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.bound = l.(*net.TCPListener)
	return s, nil
}
