package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm/bench"
)

// TestBenchFailures: each is told with what to do about it, and has its exit code.
func TestBenchFailures(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		want string
	}{
		{fmt.Errorf("stream 2: %w", bench.ErrBusy), cli.Conflict, "bo: stream 2: " + bench.ErrBusy.Error()},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, cli.Unreachable,
			"bo serves no bench: it runs with --bench=false, or is of another version"},
		{fmt.Errorf("read: %w", os.ErrDeadlineExceeded), cli.TimedOut,
			"bo did not keep up: read: i/o timeout; see 'ssm status', here and there"},
		{context.DeadlineExceeded, cli.TimedOut,
			"bo did not keep up: context deadline exceeded; see 'ssm status', here and there"},
		{errors.New("reset"), cli.Failed, "bo: reset"},
	} {
		err := (&benchResult{Peer: "bo"}).explain(tt.err)
		if err.Error() != tt.want || cli.Code(err) != tt.code {
			t.Errorf("%v: %v (exit %d), want %s (exit %d)", tt.err, err, cli.Code(err), tt.want, tt.code)
		}
	}
}
