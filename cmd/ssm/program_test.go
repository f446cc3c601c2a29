package main

import (
	"errors"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

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
