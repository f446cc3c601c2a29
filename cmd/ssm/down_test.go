package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"ssmnet/cmd/internal/cli"
)

// slow is an SSM that takes its time to end.
type slow struct {
	fake
	may chan struct{}
}

func (s *slow) Run(ctx context.Context) error {
	<-ctx.Done()
	<-s.may
	return nil
}

// TestDownInVain: an SSM that does not end in time is told apart from one that does not answer.
func TestDownInVain(t *testing.T) {
	s := &slow{may: make(chan struct{})}
	dir := serveModule(t, s)
	t.Cleanup(func() { close(s.may) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var out, errs strings.Builder
	code := cli.RunContext(ctx, program(), []string{"ssm", "--dir", dir, "down"}, strings.NewReader(""), &out, &errs)
	if code != cli.TimedOut || out.Len() > 0 || !strings.HasPrefix(errs.String(), "ssm: the SSM has not ended after ") {
		t.Errorf("exit code %d, %q, %q", code, out.String(), errs.String())
	}
}
