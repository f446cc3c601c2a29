package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet/control"
	"ssmnet/policy"
)

// serve puts a handler behind a unix socket and gives a client of it.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	c, _ := serveWithin(t, h, 0)
	return c
}

// serveWithin is serve with a deadline for reading requests; zero is none.
func serveWithin(t *testing.T, h http.Handler, timeout time.Duration) (*Client, *httptest.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener, s.Config.ReadTimeout = l, timeout
	s.Start()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() { transport.CloseIdleConnections(); s.Close() })
	return NewClient(&http.Client{Transport: transport}), s
}

var (
	when    = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	session = control.SessionID{0xab, 15: 1}
	seven   = uint64(7)
	acked   = []kdc.Receipt{{Session: session, Peer: "ana", State: kdc.ReceiptAcked, At: when}}
)

// roundTrip is one call of the API, what the operation is to be asked, and what it answers.
type roundTrip struct {
	name   string
	call   func(*Client, context.Context) (any, error)
	said   string
	answer any
}

// run makes the call through socket and handler: the operation sees the arguments, the caller the answer.
func (r roundTrip) run(t *testing.T) {
	f := &fake{answer: r.answer}
	got, err := r.call(serve(t, Handler(f)), t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.said() != r.said {
		t.Errorf("the operation was asked\n%s\nwant\n%s", f.said(), r.said)
	}
	if !reflect.DeepEqual(got, r.answer) {
		t.Errorf("answer\n%+v\nwant\n%+v", got, r.answer)
	}
}

func TestRoundTripOfPeers(t *testing.T) {
	info := kdc.PeerInfo{Name: "ana", Addresses: []netip.Addr{addr("100.80.0.2")}, Subnets: []netip.Prefix{},
		Tags: []string{"web"}, State: kdc.StateEnrolled, Created: when, KeyID: control.KeyID{1}, NextKeyID: control.KeyID{4}, Online: true,
		Source: "192.0.2.1:4000", Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7601")},
		Boot: control.Boot{2}, Since: when, LastSeen: when, Software: "ssm 1", Sessions: 3}
	enrolment := kdc.Enrolment{Name: "ana", Addresses: info.Addresses, Token: "token", Expires: when,
		Identity: []byte("id")}
	rotations := kdc.Rotations{Skipped: 2, Rotations: []kdc.Rotation{
		{Peer: "ana", KeyID: control.KeyID{3}, State: kdc.Rotated},
	}}
	for _, tt := range []roundTrip{
		{"add", func(c *Client, x context.Context) (any, error) {
			return c.AddPeer(x, kdc.NewPeer{Name: "ana", Subnets: []netip.Prefix{prefix("10.0.0.0/8")}, TokenTTL: time.Hour})
		}, "AddPeer {Name:ana Addresses:[] Subnets:[10.0.0.0/8] Tags:[] TokenTTL:1h0m0s Identity:false}", enrolment},
		{"peers", func(c *Client, x context.Context) (any, error) { return c.Peers(x) }, "Peers", []kdc.PeerInfo{info}},
		{"peer", func(c *Client, x context.Context) (any, error) { return c.Peer(x, "ana") }, "Peer ana", info},
		{"change", func(c *Client, x context.Context) (any, error) {
			ten := []netip.Prefix{prefix("10.0.0.0/8")}
			return c.ChangePeer(x, "ana", kdc.PeerChange{AddTags: []string{"t"}, RemoveSubnets: ten})
		}, "ChangePeer ana {AddTags:[t] RemoveTags:[] AddSubnets:[] RemoveSubnets:[10.0.0.0/8]}", info},
		{"suspend", func(c *Client, x context.Context) (any, error) { return c.SuspendPeer(x, "ana") },
			"SuspendPeer ana", acked},
		{"resume", func(c *Client, x context.Context) (any, error) { return nil, c.ResumePeer(x, "ana") },
			"ResumePeer ana", nil},
		{"remove", func(c *Client, x context.Context) (any, error) { return c.RemovePeer(x, "ana") },
			"RemovePeer ana", acked},
		{"token", func(c *Client, x context.Context) (any, error) { return c.NewToken(x, "ana", time.Minute) },
			"NewToken ana 1m0s", enrolment},
		{"rotate", func(c *Client, x context.Context) (any, error) { return c.RotatePeer(x, "ana", time.Second) },
			"RotatePeer ana 1s", rotations},
		{"rotate all", func(c *Client, x context.Context) (any, error) { return c.RotateAll(x, time.Minute) },
			"RotateAll 1m0s", rotations},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestRoundTripOfPolicyAndSessions(t *testing.T) {
	report := kdc.PolicyReport{Revision: 3, Grants: 2, Warnings: []string{"policy:1:2: w"}, Revoked: []kdc.Receipt{},
		Narrowed: []kdc.Receipt{}}
	for _, tt := range []roundTrip{
		{"status", func(c *Client, x context.Context) (any, error) { return c.Status(x) }, "Status",
			kdc.Status{Since: when, Uptime: 1.5, PeersKnown: 2, Requests: 9, AsOf: control.AsOf{Epoch: 1, Revision: 4},
				Audit: "ok", Store: "cut off for 2m: why", Detached: true, Addresses: []string{"a:1"}, Listen: []string{"[::]:7600"},
				Overlays: []netip.Prefix{prefix("100.80.0.0/12")}}},
		{"check", func(c *Client, x context.Context) (any, error) { return c.CheckPolicy(x, []byte("{\xff}")) },
			"CheckPolicy {\xff}", report},
		{"apply", func(c *Client, x context.Context) (any, error) { return c.ApplyPolicy(x, []byte("{}"), nil, "") },
			"ApplyPolicy {} <nil> ", report},
		{"apply if", func(c *Client, x context.Context) (any, error) {
			return c.ApplyPolicy(x, []byte("{}"), &seven, "a & b")
		}, "ApplyPolicy {} 7 a & b", report},
		{"policy", func(c *Client, x context.Context) (any, error) { return c.Policy(x, 7) }, "Policy 7",
			kdc.PolicyRevision{Revision: 7, Applied: when, Note: "n", Text: "{} // ü"}},
		{"sessions", func(c *Client, x context.Context) (any, error) { return c.Sessions(x, kdc.SessionFilter{}) },
			fmt.Sprintf("Sessions %+v", kdc.SessionFilter{}), []kdc.SessionInfo{{ID: session, Requester: "ana",
				Responder: "bo", Since: when, Suite: "aes-256-gcm", Selectors: []string{"s"}, Grant: "g"}}},
		{"sessions of", func(c *Client, x context.Context) (any, error) {
			return c.Sessions(x, kdc.SessionFilter{ID: session, Peer: "ana", PairA: "bo", PairB: "cy"})
		}, fmt.Sprintf("Sessions %+v", kdc.SessionFilter{ID: session, Peer: "ana", PairA: "bo", PairB: "cy"}),
			[]kdc.SessionInfo{}},
		{"revoke", func(c *Client, x context.Context) (any, error) {
			return c.RevokeSessions(x, kdc.SessionFilter{ID: session}, time.Second)
		}, fmt.Sprintf("RevokeSessions %+v 1s", kdc.SessionFilter{ID: session}), acked},
		{"revoke all", func(c *Client, x context.Context) (any, error) {
			return c.RevokeSessions(x, kdc.SessionFilter{All: true}, 0)
		}, fmt.Sprintf("RevokeSessions %+v 0s", kdc.SessionFilter{All: true}), acked},
	} {
		t.Run(tt.name, tt.run)
	}
}

// TestErrorsCross checks that an error keeps its text, its sentinel and the places of its faults.
func TestErrorsCross(t *testing.T) {
	faults := policy.Errors{{Line: 12, Column: 7, Message: "bad"}, {Line: 13, Column: 1, Message: "worse"}}
	tests := []struct {
		err  error
		want error // what the client's caller branches on; nil: nothing
	}{
		{fmt.Errorf("peer ana: %w", kdc.ErrNotFound), kdc.ErrNotFound},
		{fmt.Errorf("peer ana: %w", kdc.ErrConflict), kdc.ErrConflict},
		{fmt.Errorf("tag: %w", kdc.ErrInvalid), kdc.ErrInvalid},
		{kdc.ErrNotServing, kdc.ErrNotServing},
		{fmt.Errorf("%w (cut off for 2m)", kdc.ErrDetached), kdc.ErrDetached},
		{fmt.Errorf("%w: %w", kdc.ErrPolicy, faults), kdc.ErrPolicy},
		{fmt.Errorf("waiting: %w", context.DeadlineExceeded), context.DeadlineExceeded},
		{errors.New("disk on fire"), nil},
	}
	f := &fake{}
	c := serve(t, Handler(f))
	for _, tt := range tests {
		t.Run(tt.err.Error(), func(t *testing.T) {
			*f = fake{err: tt.err}
			_, err := c.CheckPolicy(t.Context(), []byte("{}"))
			if err == nil || err.Error() != tt.err.Error() {
				t.Fatalf("error %q, want %q", err, tt.err)
			}
			for _, o := range outcomes {
				if errors.Is(err, o.err) != (o.err == tt.want) {
					t.Errorf("errors.Is(err, %q) is %v", o.err, o.err != tt.want)
				}
			}
			var got policy.Errors
			if errors.As(err, &got) != (tt.want == kdc.ErrPolicy) {
				t.Fatalf("faults: %v", got)
			}
			if tt.want == kdc.ErrPolicy && !reflect.DeepEqual(got, faults) {
				t.Errorf("faults %v, want %v", got, faults)
			}
		})
	}
}

// TestStrangeServer answers what no KDC does: each is an error of one line and no panic.
func TestStrangeServer(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"not ours", 404, "404 page not found\n",
			`the KDC answered "404 Not Found": is it of another version than this program?`},
		{"empty", 500, "", `the KDC answered "500 Internal Server Error": is it of another version than this program?`},
		{"unknown code", 418, `{"code":"teapot","message":"short and stout"}`, "short and stout"},
		{"not JSON", 200, "hello", "the KDC's answer is malformed: invalid character 'h' looking for beginning of value"},
		{"cut", 200, `{"name":"ana"`, "the KDC's answer is malformed: unexpected end of JSON input"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			}))
			if _, err := c.Peer(t.Context(), "ana"); err == nil || err.Error() != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

// TestNamesThatAreNoNames are refused before they become part of a path.
func TestNamesThatAreNoNames(t *testing.T) {
	f := &fake{}
	c := serve(t, Handler(f))
	long := strings.Repeat("a", 64)
	for _, name := range []string{"", ".", "..", "../policy", "a/b", "Ana", "a?b", "ana ", "a%2fb", long} {
		if _, err := c.RemovePeer(t.Context(), name); !errors.Is(err, kdc.ErrInvalid) {
			t.Errorf("RemovePeer(%q): %v, want %v", name, err, kdc.ErrInvalid)
		}
	}
	if f.called != "" {
		t.Errorf("%s was called", f.called)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
}
