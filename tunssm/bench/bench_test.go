package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ssmnet/cmd/e2e/space"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is what a sink has logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.text.Write(b) }
func (l *log) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.text.String() }

// serving is a sink on loopback, and how to dial it.
func serving(t *testing.T) (*Sink, *log, func(context.Context) (net.Conn, error)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept := new(log)
	s := NewSink(slog.New(slog.NewTextHandler(kept, nil)))
	s.tasks.Go(func() { s.Serve(l) })
	t.Cleanup(func() { l.Close(); s.Close() })
	return s, kept, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

// empty waits until the sink has no stream.
func (s *Sink) empty(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		s.mu.Lock()
		n := len(s.streams)
		s.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are left", n)
		}
	}
}

func TestMeasure(t *testing.T) {
	s, kept, dial := serving(t)
	for _, streams := range []int{1, Streams} {
		const d = 100 * time.Millisecond
		sent, received, err := Measure(t.Context(), dial, streams, d)
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]Rate{"sent": sent, "received": received} {
			if r.Bytes < chunk || r.Took < d/2 || r.Took > d+Slack || r.BitsPerSecond() <= 0 {
				t.Errorf("%d streams, %s: %+v", streams, name, r)
			}
		}
		s.empty(t)
	}
	if got := kept.String(); strings.Count(got, "served 'ssm bench'") != 2 || !strings.Contains(got, "streams=16 received=") {
		t.Errorf("logged: %s", got)
	}
}

// TestListen: a sink serves the addresses that it was told last, and says of which it cannot. That it serves them by their
// interface alone is shown in namespaces (cmd/e2e/netns).
func TestListen(t *testing.T) {
	space.Enter(t)
	space.Bridge(t, "tun0", "10.90.0.1/24", "10.90.0.2/24", "10.90.0.3/24")
	kept := new(log)
	s := NewSink(slog.New(slog.NewTextHandler(kept, nil)))
	addrs := func(all ...string) (list []netip.Addr) {
		for _, a := range all {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	}
	taken, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("10.90.0.2"), Port).String())
	if err != nil {
		t.Fatal(err)
	}
	s.Listen("tun0", addrs("10.90.0.1", "10.90.0.2"))
	if got := kept.String(); strings.Count(got, "no sink") != 1 || !strings.Contains(got, "address=10.90.0.2") ||
		!strings.Contains(got, "address already in use") {
		t.Errorf("where another program has the port: %s", got)
	}
	taken.Close()
	s.Listen("tun0", addrs("10.90.0.2", "10.90.0.3"))
	for address, served := range map[string]bool{"10.90.0.1": false, "10.90.0.2": true, "10.90.0.3": true} {
		l, err := listen("tun0", netip.MustParseAddr(address))
		if errors.Is(err, unix.EADDRINUSE) != served {
			t.Errorf("%s is served: %v, want %t", address, err, served)
		}
		if err == nil {
			l.Close()
		}
	}
	s.Close()
	if l, err := listen("tun0", netip.MustParseAddr("10.90.0.2")); err != nil {
		t.Errorf("closed: %v", err)
	} else {
		l.Close()
	}
}

// TestBusy: the seventeenth stream is told, and takes nothing from those that are served.
func TestBusy(t *testing.T) {
	s, _, dial := serving(t)
	if _, _, err := Measure(t.Context(), dial, Streams+1, time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want %v", err, ErrBusy)
	}
	s.empty(t)
	if _, _, err := Measure(t.Context(), dial, Streams, time.Millisecond); err != nil {
		t.Error(err)
	}
}

// TestManyConnections: of a thousand that do nothing as many as there are streams are kept, and no buffers for them.
func TestManyConnections(t *testing.T) {
	s, kept, dial := serving(t)
	var all []net.Conn
	busy := 0
	for range 1000 {
		c, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var head [greetingLen]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatal(err)
		}
		g, err := parseGreeting(head[:])
		if err != nil {
			t.Fatal(err)
		}
		if g.busy {
			busy++
		} else {
			all = append(all, c)
		}
	}
	if busy != 1000-Streams {
		t.Errorf("%d of 1000 were told to come later", busy)
	}
	for _, c := range all {
		c.Close()
	}
	s.empty(t)
	if kept.String() != "" {
		t.Errorf("logged: %s", kept)
	}
}

// TestCancelled: the caller that goes takes its streams along.
func TestCancelled(t *testing.T) {
	s, _, dial := serving(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := Measure(ctx, dial, 2, Longest); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.empty(t)
}

// pipes is a listener of connections in memory.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error { close(p.closed); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestLateOrWrong: each client that does not keep to the protocol is hung up on, when its time is over at the latest.
func TestLateOrWrong(t *testing.T) {
	ask := func(d time.Duration) []byte { return request{d}.append(nil) }
	for name, tc := range map[string]struct {
		sends []byte
		more  bool // and goes on sending
		took  time.Duration
	}{
		"silent":          {nil, false, RequestTimeout},
		"half a request":  {[]byte{0, 0}, false, RequestTimeout},
		"too long":        {ask(Longest + time.Millisecond), false, 0},
		"no time":         {ask(0), false, 0},
		"another":         {[]byte("GET "), false, 0},
		"silent later":    {ask(time.Second), false, time.Second + Slack},
		"longest, silent": {ask(Longest), false, Longest + Slack},
		"without end":     {ask(time.Second), true, time.Second + Slack},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := pipes{make(chan net.Conn), make(chan struct{})}
				s := NewSink(slog.New(slog.DiscardHandler))
				s.tasks.Go(func() { s.Serve(l) })
				client, server := net.Pipe()
				l.accepted <- server
				began := time.Now()
				io.ReadFull(client, make([]byte, greetingLen))
				client.Write(tc.sends)
				for tc.more {
					if _, err := client.Write(zeros[:]); err != nil {
						break
					}
					time.Sleep(time.Millisecond) // synctest's
				}
				if _, err := client.Read(make([]byte, 1)); err == nil {
					t.Error("answered")
				}
				if took := time.Since(began); took.Truncate(time.Second) != tc.took {
					t.Errorf("hung up after %v, want %v", took, tc.took)
				}
				l.Close()
				s.Close()
			})
		})
	}
}

// TestStrangeSinks: what answers wrongly is an error, and nothing that it says is believed.
func TestStrangeSinks(t *testing.T) {
	hello := greeting{}.append(nil)
	for name, says := range map[string][][]byte{
		"nothing":         {},
		"another":         {[]byte("SSH-2.0-")},
		"another version": {[]byte("SSMB\x02\x00\x00\x00")},
		"no result":       {hello, nil},
		"too many bytes":  {hello, result{1 << 60, time.Millisecond}.append(nil)},
		"an age":          {hello, result{0, 1 << 62}.append(nil)},
		"less than none":  {hello, binary.BigEndian.AppendUint64(make([]byte, 8), 1<<63)},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var task sync.WaitGroup
			defer task.Wait()
			task.Go(func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				for i, b := range says {
					if i > 0 {
						io.Copy(io.Discard, c)
					}
					c.Write(b)
				}
			})
			sent, received, err := Measure(t.Context(), func(ctx context.Context) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			}, 1, time.Millisecond)
			if err == nil || sent != (Rate{}) || received != (Rate{}) {
				t.Errorf("%+v, %+v, %v", sent, received, err)
			}
		})
	}
}

// FuzzRecords: whatever is parsed is written again as it was, and within bounds.
func FuzzRecords(f *testing.F) {
	f.Add(greeting{}.append(nil))
	f.Add(greeting{busy: true}.append(nil))
	f.Add(request{Longest}.append(nil))
	f.Add(request{time.Millisecond}.append(nil))
	f.Add(result{1 << 40, time.Second}.append(nil))
	f.Add([]byte("SSMB\x01\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := parseGreeting(b); err == nil && !bytes.Equal(g.append(nil), b) {
			t.Errorf("greeting %x", b)
		}
		if r, err := parseRequest(b); err == nil && (!bytes.Equal(r.append(nil), b) || r.duration > Longest || r.duration <= 0) {
			t.Errorf("request %x", b)
		}
		if r, err := parseResult(b); err == nil && (!bytes.Equal(r.append(nil), b) || r.took < 0 || r.took > Longest+Slack) {
			t.Errorf("result %x", b)
		}
	})
}
