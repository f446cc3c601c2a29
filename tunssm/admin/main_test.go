package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ssmnet/tunssm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers what the test laid down, and notes whom it was to ping.
type fake struct {
	status tunssm.Status
	took   time.Duration
	err    error
	silent bool // a ping ends with its context

	mu       sync.Mutex
	pinged   []string
	traced   []tunssm.Query
	trace    tunssm.Trace
	commands []string
}

func (f *fake) Status() (tunssm.Status, error) { return f.status, f.err }

func (f *fake) Ping(ctx context.Context, peer string) (time.Duration, error) {
	f.mu.Lock()
	f.pinged = append(f.pinged, peer)
	f.mu.Unlock()
	if f.silent {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return f.took, f.err
}

func (f *fake) Trace(_ context.Context, q tunssm.Query) (tunssm.Trace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traced = append(f.traced, q)
	return f.trace, f.err
}

// serve puts a handler behind a unix socket and gives a client of it.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ssm.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() { transport.CloseIdleConnections(); s.Close() })
	return NewClient(&http.Client{Transport: transport})
}

// noDown is for tests in which nothing may end the SSM.
func noDown(t *testing.T) func() { return func() { t.Error("the SSM was ended") } }

func (f *fake) Rekey(peer string) error { return f.command("rekey", peer) }

func (f *fake) CloseSession(peer string) error { return f.command("close", peer) }

func (f *fake) Reroute() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, "reroute")
	return f.err
}

// command is a session's: there is one with db-1 alone.
func (f *fake) command(verb, peer string) error {
	if peer != "db-1" {
		return tunssm.ErrNotFound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commands = append(f.commands, verb+" "+peer)
	return nil
}
