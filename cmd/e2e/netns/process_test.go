package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// longest is how long a command may take before it counts as hung.
const longest = 40 * time.Second

// Result is how a command ended.
type Result struct {
	Command        string
	Code           int // exit code; -1: ended by a signal
	Stdout, Stderr string
	Took           time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("%s: exit %d after %v\n%s%s", r.Command, r.Code, r.Took.Round(time.Millisecond), r.Stdout, r.Stderr)
}

// command is args inside the namespace. `ip netns exec` becomes the command, so its pid is the command's.
func (h *Host) command(args []string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.space}, args...)...)
}

// Try runs a command on the host, however it may end.
func (h *Host) Try(t *testing.T, args ...string) Result {
	t.Helper()
	p := h.Start(t, args...)
	return p.Wait(t, longest)
}

// Run runs a command that must succeed, and gives its standard output.
func (h *Host) Run(t *testing.T, args ...string) string {
	t.Helper()
	r := h.Try(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// Process is a command that was started.
type Process struct {
	cmd            *exec.Cmd
	name           string
	began          time.Time
	stdout, stderr buffer
	ended          chan struct{}
	result         Result // once ended is closed
}

// buffer is written by the process and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start starts a command. It is killed at the end of the test if it still runs.
func (h *Host) Start(t *testing.T, args ...string) *Process {
	t.Helper()
	return h.start(t, nil, args)
}

// start is Start; where log is given, standard error goes there and nowhere else.
func (h *Host) start(t *testing.T, log *os.File, args []string) *Process {
	t.Helper()
	p := &Process{cmd: h.command(args), name: h.Name + "$ " + strings.Join(args, " "), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if log != nil {
		p.cmd.Stdout, p.cmd.Stderr = log, log
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	go p.wait()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *Process) wait() {
	err := p.cmd.Wait()
	p.result = Result{Command: p.name, Code: p.cmd.ProcessState.ExitCode(), Stdout: p.stdout.String(),
		Stderr: p.stderr.String(), Took: time.Since(p.began)}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		p.result.Stderr += err.Error()
	}
	close(p.ended)
}

// Wait waits for the end of the process.
func (p *Process) Wait(t *testing.T, limit time.Duration) Result {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(limit):
		t.Fatalf("%s: still runs after %v\n%s%s", p.name, limit, p.stdout.String(), p.stderr.String())
	}
	return p.result
}

// Signal sends it a signal.
func (p *Process) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// End sends a signal and waits for the process to end.
func (p *Process) End(t *testing.T, s syscall.Signal) Result {
	t.Helper()
	p.Signal(t, s)
	return p.Wait(t, longest)
}

// freeze stops a process until it is sent SIGCONT, and waits until each of its threads stands still.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	threads := fmt.Sprintf("/proc/%d/task/*/stat", pid)
	eventually(t, started, "the process stands still", func() error {
		stats, err := filepath.Glob(threads)
		if err != nil || len(stats) == 0 {
			return fmt.Errorf("%s: nothing there, %v", threads, err)
		}
		for _, name := range stats {
			stat, err := os.ReadFile(name) // pid (name) state ...; proc_pid_stat(5)
			if err != nil {
				return err
			}
			if !strings.Contains(string(stat), ") T ") {
				return fmt.Errorf("a thread runs: %s", stat)
			}
		}
		return nil
	})
}
