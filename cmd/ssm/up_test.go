package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

// TestBeginLog: each start begins with a line of its own, after what the log holds already.
func TestBeginLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), logName)
	for range 2 {
		length, err := beginLog(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || int64(len(b)) != length || !bytes.HasSuffix(b, []byte("version="+cli.Release()+"\n")) {
			t.Errorf("log %q, %v; length %d", b, err, length)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Count(b, []byte("\n")) != 2 {
		t.Errorf("log %q, %v", b, err)
	}
}

// faulty is an SSM that a KDC has welcomed and that cannot set its interface up.
type faulty struct{ fake }

func (*faulty) Status() (tunssm.Status, error) {
	return tunssm.Status{Name: "ana", Interface: "tun0", Fault: "overlay: conflict"}, nil
}

// mute is an SSM whose peers answer once.
type mute struct{ fake }

func (m *mute) Ping(ctx context.Context, _ string) (time.Duration, error) {
	if m.pings++; m.pings == 1 {
		return time.Millisecond, nil
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// serveModule serves a module in a state directory until the test ends.
func serveModule(t *testing.T, m module) (dir string) {
	t.Helper()
	dir = t.TempDir()
	socket, err := daemon.ListenUnix(filepath.Join(dir, socketName))
	if err == nil {
		socket, err = daemon.Occupy(dir, socket)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, m, socket, daemon.NewLog(io.Discard, slog.LevelInfo)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestWelcomeGivesUp: on a fault of the interface, at once, and not on a KDC that may yet come.
func TestWelcomeGivesUp(t *testing.T) {
	for _, c := range []struct {
		m    module
		is   error
		says string
	}{
		{&faulty{}, errInterface, "cannot set up the interface tun0: overlay: conflict"},
		{&fake{waiting: true}, context.DeadlineExceeded, "192.0.2.1:7600: connection refused"},
	} {
		dir := serveModule(t, c.m)
		process, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err = child{pid: process.Pid}.welcome(ctx, clientAt(dir))
		cancel()
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %v with %q", err, c.is, c.says)
		}
		if err := process.Kill(); err != nil {
			t.Error(err)
		}
		process.Wait()
	}
}

// TestWelcomeOfAnother: where another 'up' was faster, ours has done its part only when its own child has ended.
func TestWelcomeOfAnother(t *testing.T) {
	dir := serveModule(t, &fake{})
	process, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	welcome := func(pid int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := child{pid: pid, dir: dir}.welcome(ctx, clientAt(dir))
		return err
	}
	if err := welcome(os.Getpid()); err != nil {
		t.Errorf("the SSM that answers is ours: %v", err)
	}
	if err := welcome(process.Pid); !errors.Is(err, errYetToEnd) {
		t.Errorf("our child might still begin: %v", err)
	}
	if err := process.Kill(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err := welcome(process.Pid); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("our child has ended: %v", err)
		}
	}
}

// TestPingMute: the first echo may take as long as the making of a session, no other.
func TestPingMute(t *testing.T) {
	dir := serveModule(t, &mute{})
	var out, errs strings.Builder
	began := time.Now()
	code := cli.Run(program(), []string{"ssm", "--dir", dir, "ping", "bo", "-c", "2"}, strings.NewReader(""), &out, &errs)
	if code != cli.Done || out.String() != "bo: 1 of 2 echoes; first 1.00ms\n" {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
	if took := time.Since(began); took < steadyTimeout || took > admin.PingTimeout {
		t.Errorf("took %v, want %v", took, steadyTimeout)
	}
}

// stale is an SSM whose peer does not answer: a session that is to be rekeyed goes on.
type stale struct{ fake }

func (*stale) Rekey(string) error { return nil }

// TestRekeyInVain: that no fresh session comes is not laid to the SSM.
func TestRekeyInVain(t *testing.T) {
	dir := serveModule(t, &stale{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var out, errs strings.Builder
	args := []string{"ssm", "--dir", dir, "session", "rekey", "bo"}
	code := cli.RunContext(ctx, program(), args, strings.NewReader(""), &out, &errs)
	if code != cli.TimedOut || out.String() != "" || !strings.HasPrefix(errs.String(), "ssm: no fresh session with bo ") {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
}

// TestSomeOf: a table shows a few of many values and how many it leaves out.
func TestSomeOf(t *testing.T) {
	var subnets []netip.Prefix
	for i := range 64 {
		subnets = append(subnets, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16))
	}
	for n, want := range map[int]string{
		0: "", 1: "10.0.0.0/16", 8: cli.Joined(subnets[:8]), 9: cli.Joined(subnets[:8]) + " … and 1 more",
		64: cli.Joined(subnets[:8]) + " … and 56 more",
	} {
		if got := someOf(subnets[:n]); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// TestWhyTheChildEnded: its last word, else how it ended and where its log is.
func TestWhyTheChildEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), logName)
	const earlier = "ssm: of an earlier start\n"
	for _, tt := range []struct {
		log, how, want string
		code           int
	}{
		{"level=INFO msg=x\nssm: the port is taken\n", "exit status 1", "the port is taken", cli.Failed},
		{"ssm: cannot be\n", "exit status 2", "cannot be", cli.Usage},
		{"panic: a bug\n\ngoroutine 1\n", "exit status 2", "the SSM ended at once (exit status 2): see " + path, cli.Usage},
		{"", "signal: killed", "the SSM ended at once (signal: killed): see " + path, cli.Failed},
	} {
		if err := os.WriteFile(path, []byte(earlier+tt.log), 0o600); err != nil {
			t.Fatal(err)
		}
		err := child{log: path, from: int64(len(earlier))}.why(tt.how)
		if err.Error() != tt.want || cli.Code(err) != tt.code {
			t.Errorf("%q: %v (exit %d), want %s (exit %d)", tt.log, err, cli.Code(err), tt.want, tt.code)
		}
	}
}
