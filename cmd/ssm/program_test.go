package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm/admin"
)

// TestRunsPastAKill: an SSM that takes calls and does not answer them, because it ends, is waited for.
func TestRunsPastAKill(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), socketName)
	socket, err := daemon.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			if conn, err := socket.Accept(); err == nil {
				conn.Close()
			}
		}
		socket.Close()
	}()
	h := daemon.Client(path)
	defer h.CloseIdleConnections()
	if _, err := runs(t.Context(), admin.NewClient(h)); !errors.Is(err, daemon.ErrNotRunning) {
		t.Errorf("error %v, want %v", err, daemon.ErrNotRunning)
	}
	socket.Close()
	<-done
}

// TestStatusPastAKill: for the same moment, status says of an SSM that was killed that none runs.
func TestStatusPastAKill(t *testing.T) {
	dir := t.TempDir()
	socket, err := daemon.ListenUnix(filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := socket.Accept(); err == nil {
			conn.Close()
		}
		socket.Close()
	}()
	var out, errs strings.Builder
	code := cli.Run(program(), []string{"ssm", "--dir", dir, "status"}, strings.NewReader(""), &out, &errs)
	if code != cli.Unreachable || !strings.HasPrefix(errs.String(), "ssm: the SSM is not running: ") {
		t.Errorf("exit %d, %q", code, errs.String())
	}
	<-done
}
