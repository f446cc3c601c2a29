package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/tunssm"
)

var when = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)

func fullStatus() tunssm.Status {
	prefix := netip.MustParsePrefix
	return tunssm.Status{
		Name: "ana", Ready: true, Interface: "tun0", Fault: "f", MTU: 1420, Port: 7601, Boot: control.Boot{2, 15: 1},
		Addresses: []netip.Addr{netip.MustParseAddr("100.80.0.2")}, Subnets: []netip.Prefix{prefix("10.20.0.0/16")},
		AsOf: control.AsOf{Epoch: 1, Revision: 9}, Uptime: 1.5, CPU: 2.25, Held: 77,
		Rx:     tunssm.TrafficStatus{Packets: 5, Bytes: 600, Last: when},
		Tx:     tunssm.TrafficStatus{Packets: 6, Bytes: 700},
		KDCs:   []tunssm.KDCStatus{{Address: "192.0.2.1:7600", Connected: true, Detached: true, For: 2.5, Fault: "x"}},
		Routes: []tunssm.RouteStatus{{Prefix: prefix("10.30.0.0/16"), Refused: "overlap"}},
		Gateway: []tunssm.SubnetStatus{{
			Prefix: prefix("10.20.0.0/16"), State: "forwarding", Interfaces: []string{"eth1"}, Warnings: []string{"w"},
		}},
		Outbound: tunssm.OutboundStatus{Batches: 11, Reads: 12, Sends: 13, Frames: 14},
		Inbound:  tunssm.InboundStatus{Batches: 21, Receives: 22, Frames: 23, Writes: 24, Packets: 25},
		Drops:    map[string]uint64{"replayed": 1 << 60},
		Sessions: []tunssm.SessionStatus{{
			ID: control.SessionID{0xab, 15: 1}, Peer: "bo", Role: "requester", State: "sending", Suite: "aes-256-gcm", Order: 4,
			Endpoint: netip.MustParseAddrPort("[2001:db8::7]:7601"), Age: 3, RekeyIn: -1,
			Rx:       tunssm.TrafficStatus{Packets: 1, Bytes: 2, Last: when},
			Prefixes: []netip.Prefix{prefix("100.80.0.3/32")}, Selectors: []string{"s > t"}, AsOf: control.AsOf{Epoch: 1},
		}},
	}
}

func TestStatusRoundTrip(t *testing.T) {
	f := &fake{status: fullStatus()}
	got, err := serve(t, Handler(f, noDown(t))).Status(t.Context())
	if err != nil || !reflect.DeepEqual(got, f.status) {
		t.Errorf("status %+v, %v\nwant %+v", got, err, f.status)
	}
}

func TestPing(t *testing.T) {
	f := &fake{took: 1234500 * time.Nanosecond}
	took, err := serve(t, Handler(f, noDown(t))).Ping(t.Context(), "db-1")
	if took != f.took || err != nil {
		t.Errorf("took %v, %v; want %v", took, err, f.took)
	}
	if fmt.Sprint(f.pinged) != "[db-1]" {
		t.Errorf("pinged %v", f.pinged)
	}
}

// TestErrorsCross checks that an error keeps its text, and that the caller can tell what it amounts to.
func TestErrorsCross(t *testing.T) {
	refused := func(r control.Reason) error { return &tunssm.RefusedError{Peer: "bo", Reason: r} }
	tests := []struct {
		err  error
		want error // what the client's caller branches on; nil: nothing
	}{
		{refused(control.Denied), ErrDenied},
		{refused(control.Suspended), ErrDenied},
		{refused(control.Refused), ErrDenied},
		{refused(control.Unknown), ErrUnknown},
		{refused(control.Offline), ErrOffline},
		{refused(control.Behind), ErrOffline},
		{refused(control.Detached), ErrOffline},
		{refused(control.Unavailable), ErrOffline},
		{refused(control.Busy), ErrOffline},
		{refused(200), ErrOffline},
		{fmt.Errorf("again: %w", refused(control.Denied)), ErrDenied},
		{tunssm.ErrEnded, tunssm.ErrEnded},
		{fmt.Errorf("waiting: %w", context.DeadlineExceeded), context.DeadlineExceeded},
		{errors.New("the interface is gone"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.err.Error(), func(t *testing.T) {
			c := serve(t, Handler(&fake{err: tt.err}, noDown(t)))
			_, fromPing := c.Ping(t.Context(), "bo")
			_, fromStatus := c.Status(t.Context())
			for _, err := range []error{fromPing, fromStatus} {
				if err == nil || err.Error() != tt.err.Error() {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				for _, o := range outcomes {
					if errors.Is(err, o.err) != (o.err == tt.want) {
						t.Errorf("errors.Is(err, %q) is %v", o.err, o.err != tt.want)
					}
				}
			}
		})
	}
}

// TestPingTimeout: an echo that never comes ends on the SSM's side after PingTimeout, for any client.
func TestPingTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := request(Handler(&fake{silent: true}, noDown(t)), "POST", "/v1/ping/bo")
		if took := time.Since(began); took != PingTimeout {
			t.Errorf("took %v, want %v", took, PingTimeout)
		}
		if err := restore("", w.Body.Bytes()); w.Code != http.StatusGatewayTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("status %d, error %v", w.Code, err)
		}
	})
}

// TestCallEndsWithItsContext: the client goes, and the SSM stops waiting for the echo.
func TestCallEndsWithItsContext(t *testing.T) {
	c := serve(t, Handler(&fake{silent: true}, noDown(t)))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Ping(ctx, "bo"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
}

// TestDownAnswersFirst: the caller has its answer while the SSM is still ending.
func TestDownAnswersFirst(t *testing.T) {
	ending, answered := make(chan struct{}), make(chan struct{})
	c := serve(t, Handler(&fake{}, func() { close(ending); <-answered }))
	err := c.Down(t.Context())
	select {
	case <-ending:
	case <-time.After(20 * time.Second):
		t.Error("the SSM was not ended")
	}
	close(answered)
	if err != nil {
		t.Error(err)
	}
}

// TestStrangeServer answers what no SSM does: each is an error of one line and no panic.
func TestStrangeServer(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"not ours", 404, "404 page not found\n",
			`the SSM answered "404 Not Found": is it of another version than this program?`},
		{"empty", 500, "", `the SSM answered "500 Internal Server Error": is it of another version than this program?`},
		{"unknown code", 418, `{"code":"teapot","message":"short and stout"}`, "short and stout"},
		{"not JSON", 200, "hello", "the SSM's answer is malformed: invalid character 'h' looking for beginning of value"},
		{"cut", 200, `{"name":"ana"`, "the SSM's answer is malformed: unexpected end of JSON input"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			}))
			if _, err := c.Status(t.Context()); err == nil || err.Error() != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

// TestOversizeAnswer: the longest answer is read whole, and of a longer one no more than that.
func TestOversizeAnswer(t *testing.T) {
	var answer string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answer)) }))
	c.most = 1 << 10
	answer = strings.Repeat(" ", 1<<10-14) + `{"name":"ana"}`
	if st, err := c.Status(t.Context()); err != nil || st.Name != "ana" {
		t.Errorf("status of %q, %v", st.Name, err)
	}
	answer = " " + answer
	const want = "the SSM's answer is longer than 1024 bytes"
	if _, err := c.Status(t.Context()); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestNamesThatAreNoNames are refused before they become part of a path.
func TestNamesThatAreNoNames(t *testing.T) {
	f := &fake{}
	c := serve(t, Handler(f, noDown(t)))
	long := strings.Repeat("a", 64)
	for _, name := range []string{"", ".", "..", "../down", "a/b", "Ana", "a?b", "ana ", "a%2fb", "a\nb", long} {
		if _, err := c.Ping(t.Context(), name); !errors.Is(err, ErrUnknown) {
			t.Errorf("Ping(%q): %v, want %v", name, err, ErrUnknown)
		}
	}
	if len(f.pinged) > 0 {
		t.Errorf("pinged %q", f.pinged)
	}
}

func TestSessionCommands(t *testing.T) {
	f := new(fake)
	c := serve(t, Handler(f, noDown(t)))
	if err := c.Rekey(t.Context(), "db-1"); err != nil {
		t.Error(err)
	}
	if err := c.CloseSession(t.Context(), "db-1"); err != nil {
		t.Error(err)
	}
	if want := []string{"rekey db-1", "close db-1"}; !slices.Equal(f.commands, want) {
		t.Errorf("the SSM was told %q, want %q", f.commands, want)
	}
	for _, err := range []error{c.Rekey(t.Context(), "bo"), c.CloseSession(t.Context(), "bo")} {
		if !errors.Is(err, tunssm.ErrNotFound) {
			t.Errorf("%v, want %v", err, tunssm.ErrNotFound)
		}
	}
	for _, err := range []error{c.Rekey(t.Context(), ".."), c.CloseSession(t.Context(), "")} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("%v, want %v", err, ErrUnknown)
		}
	}
}

func TestReroute(t *testing.T) {
	f := new(fake)
	c := serve(t, Handler(f, noDown(t)))
	if err := c.Reroute(t.Context()); err != nil || !slices.Equal(f.commands, []string{"reroute"}) {
		t.Errorf("the SSM was told %q, %v", f.commands, err)
	}
	f.err = errors.New("routes.toml:1:1: no such setting")
	if err := c.Reroute(t.Context()); err == nil || err.Error() != f.err.Error() {
		t.Errorf("error %v, want %v", err, f.err)
	}
}

// TestTrace: question and answer cross the socket whole.
func TestTrace(t *testing.T) {
	addr := netip.MustParseAddr
	f := &fake{trace: tunssm.Trace{
		To: "bo", Peer: "bo", Src: addr("100.80.0.2"), Dst: addr("100.80.0.3"), Service: "tcp/22", Outcome: tunssm.Prohibited,
		Steps: []tunssm.Step{{Name: "decision", State: tunssm.Fault, Finding: "denied", Advice: "ask"}},
	}}
	c := serve(t, Handler(f, noDown(t)))
	for _, q := range []tunssm.Query{
		{To: "bo", Protocol: 6, Port: 65535},
		{To: "fd00::3", From: addr("fd00::2"), IPv6: true, Protocol: 255},
		{To: "a b&to=c/..", Protocol: 1},
	} {
		got, err := c.Trace(t.Context(), q)
		if err != nil || !reflect.DeepEqual(got, f.trace) || f.traced[len(f.traced)-1] != q {
			t.Errorf("%+v, %v; asked %+v, want %+v", got, err, f.traced[len(f.traced)-1], q)
		}
	}
	for _, err := range []error{tunssm.ErrQuery, tunssm.ErrNotReady} {
		f.err = err
		if _, got := c.Trace(t.Context(), tunssm.Query{}); !errors.Is(got, err) {
			t.Errorf("%v, want %v", got, err)
		}
	}
}

// TestBadQueries are refused before the SSM hears of them.
func TestBadQueries(t *testing.T) {
	f := new(fake)
	h := Handler(f, noDown(t))
	for _, q := range []string{"", "to=b", "protocol=256&port=1", "protocol=6&port=65536", "protocol=6&port=-1",
		"protocol=6&port=1&from=x", "protocol=tcp&port=1"} {
		w := request(h, "GET", "/v1/trace?"+q)
		if err := restore("", w.Body.Bytes()); w.Code != http.StatusBadRequest || !errors.Is(err, tunssm.ErrQuery) {
			t.Errorf("%q: status %d, %v", q, w.Code, err)
		}
	}
	if len(f.traced) > 0 {
		t.Errorf("traced %+v", f.traced)
	}
}
