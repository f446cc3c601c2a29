package main

import (
	"bufio"
	"context"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

// quiet is a KDC with one live session, of which nothing comes any more.
type quiet struct{ fake }

func (*quiet) WatchSessions(ctx context.Context, _ kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error) {
	return func(yield func(kdc.SessionEvent) bool) {
		yield(kdc.SessionEvent{Time: fakeTime, Event: kdc.SessionLive, Session: fakeFirst, Requester: "ana", Responder: "bo"})
		<-ctx.Done()
	}, nil
}

// TestWatchInterrupted: to end a watch is no failure.
func TestWatchInterrupted(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: admin.Handler(&quiet{})}
	defer s.Close()
	go s.Serve(l)
	out, in := io.Pipe()
	ended := make(chan int)
	var errs strings.Builder
	go func() {
		ended <- cli.Run(program(), []string{"kdc", "--dir", dir, "session", "watch"}, strings.NewReader(""), in, &errs)
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := "2026-11-23T15:00:00Z  live      " + fakeFirst.String() + "  ana > bo\n"; line != want || err != nil {
		t.Errorf("%q (%v), want %q", line, err, want)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != cli.Done || errs.Len() > 0 {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}
