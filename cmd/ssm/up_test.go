package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

// TestUpDiskFull: up says so itself, for the SSM that it would start could write it nowhere.
func TestUpDiskFull(t *testing.T) {
	dir := space.Disk(t, "16k")
	id := control.Identity(newToken("127.0.0.1:1"))
	if err := saveIdentity(filepath.Join(dir, identityName), id); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(filepath.Join(dir, "rest"), make([]byte, 64<<10), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	code := cli.Run(program(), []string{"ssm", "--dir", dir, "up"}, strings.NewReader(""), &out, &errs)
	want := "ssm: cannot write the log: write " + filepath.Join(dir, logName) + ": no space left on device\n"
	if code != cli.Failed || out.Len() > 0 || errs.String() != want {
		t.Errorf("exit code %d, standard output %q, standard error %q, want %q", code, out.String(), errs.String(), want)
	}
}

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
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, m, socket, newLog(io.Discard, slog.LevelInfo)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir
}

// onceMore is a connection to an SSM whose user gives up as it is asked for the second time.
type onceMore struct {
	http.RoundTripper
	asked  int
	giveUp func()
}

func (o *onceMore) RoundTrip(r *http.Request) (*http.Response, error) {
	if o.asked++; o.asked == 2 {
		o.giveUp()
	}
	return o.RoundTripper.RoundTrip(r)
}

// TestWelcomeGivesUp: on a fault of the interface, at once, and not on a KDC that may yet come.
func TestWelcomeGivesUp(t *testing.T) {
	for _, c := range []struct {
		m    module
		is   error
		says string
	}{
		{&faulty{}, errInterface, "cannot set up the interface tun0: overlay: conflict"},
		{&fake{waiting: true}, context.Canceled, "192.0.2.1:7600: connection refused"},
	} {
		dir := serveModule(t, c.m)
		process, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		connection := daemon.Client(filepath.Join(dir, socketName))
		connection.Transport = &onceMore{connection.Transport, 0, cancel}
		st, err := child{pid: process.Pid}.welcome(ctx, admin.NewClient(connection))
		cancel()
		if lacks := readiness(st); !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err, lacks), c.says) {
			t.Errorf("%v, lacks %v, want %v with %q", err, lacks, c.is, c.says)
		}
		if err := process.Kill(); err != nil {
			t.Error(err)
		}
		process.Wait()
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
