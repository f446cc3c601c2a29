package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/tunssm"
)

// fake is an SSM on no network. Its peers answer as their names say; whoever it does not know is unknown.
type fake struct {
	waiting bool   // no KDC has welcomed it
	parted  bool   // from the KDCs, of which one does not answer and one is not connected
	service string // what runs it
	pings   int
	rekeys  atomic.Int32
}

func (*fake) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fake) Status() (tunssm.Status, error) {
	st := tunssm.Status{
		Service: f.service, Name: "ana", Ready: true, Interface: "tun0", MTU: 1420, Port: 7601, Boot: control.Boot{2, 15: 2},
		Addresses: []netip.Addr{netip.MustParseAddr("100.80.0.2"), netip.MustParseAddr("fd00:80::2")},
		Subnets:   []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")},
		AsOf:      control.AsOf{Epoch: 1, Revision: 9}, Uptime: 3661,
		KDCs: []tunssm.KDCStatus{
			{Address: "192.0.2.1:7600", For: 12, Fault: "dial tcp 192.0.2.1:7600: connect: connection refused"},
			{Address: "192.0.2.2:7600", Connected: true, For: 3661},
			{Address: "192.0.2.3:7600", Connected: true, Detached: true, For: 60},
		},
		Routes: []tunssm.RouteStatus{
			{Prefix: netip.MustParsePrefix("10.30.0.0/16"), State: "installed", Peer: "cy"},
			{Prefix: netip.MustParsePrefix("10.40.0.0/16"), State: "declined", Refused: "declined with 'ssm route del'"},
			{Prefix: netip.MustParsePrefix("192.168.0.0/16"), State: "refused", Refused: "overlaps eth0"},
		},
		Rx: tunssm.TrafficStatus{Bytes: 4096}, Tx: tunssm.TrafficStatus{Bytes: 1 << 21}, Held: 3000,
		Gateway: []tunssm.SubnetStatus{
			{Prefix: netip.MustParsePrefix("10.20.0.0/16"), State: "forwarding", Interfaces: []string{"eth1"},
				Warnings: []string{"the firewall drops what is forwarded"}},
			{Prefix: netip.MustParsePrefix("10.21.0.0/16"), State: "failed", Fault: "no interface of this host leads there"},
		},
		Outbound: tunssm.OutboundStatus{Batches: 1000, Reads: 1500, Sends: 1250, Frames: 41200},
		Inbound:  tunssm.InboundStatus{Batches: 300, Receives: 310, Frames: 930},
		Drops:    map[string]uint64{"replayed": 2, "denied": 11},
		Sessions: fakeSessions(byte(f.rekeys.Load())),
	}
	if f.parted {
		st.KDCs = []tunssm.KDCStatus{st.KDCs[0], {Address: "192.0.2.4:7600", Silent: 7, For: 90, Fault: "no answer"}}
	}
	if f.waiting {
		return tunssm.Status{Name: "ana", Interface: "tun0", MTU: 1420, KDCs: st.KDCs[:1]}, nil
	}
	return st, nil
}

func fakeSessions(rekeys byte) []tunssm.SessionStatus {
	first := tunssm.SessionStatus{
		ID: control.SessionID{0xaa, 15: 1 + rekeys}, Peer: "bo", MTU: 1420, Role: "requester", State: "sending", Suite: "aes-256-gcm", Order: 3,
		Endpoint: netip.MustParseAddrPort("192.0.2.7:7601"), Age: 90, RekeyIn: 510,
		Rx:       tunssm.TrafficStatus{Packets: 7, Bytes: 1536, Last: time.Now().Add(-99 * time.Hour)},
		Tx:       tunssm.TrafficStatus{Packets: 8, Bytes: 640},
		Heard:    time.Now().Add(-49 * time.Hour),
		Prefixes: []netip.Prefix{netip.MustParsePrefix("100.80.0.3/32")}, AsOf: control.AsOf{Epoch: 1, Revision: 9},
		Selectors: []string{"100.80.0.2/32 > 100.80.0.3/32 tcp/22", "icmp back"},
	}
	second := first
	second.ID, second.State, second.Role, second.Order = control.SessionID{0xbb, 15: 2}, "superseded", "responder", 2
	return []tunssm.SessionStatus{first, second,
		{ID: control.SessionID{0xcc, 15: 3}, Peer: "cy", MTU: 1280, Fragments: true, Role: "responder", State: "provisional", Suite: "chacha20-poly1305"}}
}

func (f *fake) Ping(_ context.Context, peer string) (time.Duration, error) {
	reasons := map[string]control.Reason{
		"denied": control.Denied, "suspended": control.Suspended, "offline": control.Offline, "behind": control.Behind,
	}
	reason, refused := reasons[peer]
	switch {
	case refused:
		return 0, &tunssm.RefusedError{Peer: peer, Reason: reason}
	case peer == "silent":
		return 0, context.DeadlineExceeded
	case peer == "ending":
		return 0, tunssm.ErrEnded
	case peer == "broken":
		return 0, errors.New("the interface is gone")
	case peer != "bo" && peer != "lossy":
		return 0, &tunssm.RefusedError{Peer: peer, Reason: control.Unknown}
	}
	if f.pings++; f.pings == 1 {
		return 2500 * time.Microsecond, nil
	}
	if peer == "lossy" {
		return 0, context.DeadlineExceeded
	}
	return time.Duration(f.pings) * 100 * time.Microsecond, nil
}

// Trace follows flows to the peers that Ping knows, and out of this host by a route of its own.
func (f *fake) Trace(_ context.Context, q tunssm.Query) (tunssm.Trace, error) {
	tr := tunssm.Trace{
		To: q.To, Peer: q.To, Src: netip.MustParseAddr("100.80.0.2"), Dst: netip.MustParseAddr("100.80.0.3"),
		Service: fmt.Sprintf("%s/%d", q.Protocol, q.Port), Outcome: tunssm.Reachable,
	}
	steps := map[string]tunssm.Step{
		"route":    {State: tunssm.Fine, Finding: "100.80.0.0/12 leads into tun0, from 100.80.0.2"},
		"decision": {State: tunssm.Fine, Finding: "grant ops-ssh permits it"},
		"session":  {State: tunssm.Moot, Finding: "none"},
	}
	bad := func(o tunssm.Outcome, step, finding, advice string) {
		tr.Outcome, steps[step] = o, tunssm.Step{State: tunssm.Fault, Finding: finding, Advice: advice}
	}
	switch {
	case q.From.IsValid():
		return tr, fmt.Errorf("%w: %s is not this host's", tunssm.ErrQuery, q.From)
	case q.To == "early":
		return tr, tunssm.ErrNotReady
	case q.To == "denied":
		bad(tunssm.Misrouted, "route", "no route", "make one")
		bad(tunssm.Prohibited, "decision", "denied: no grant", "ask for one")
	case q.To == "misrouted":
		bad(tunssm.Misrouted, "route", "10.0.0.0/8 leads to eth0", "remove it")
	case q.To == "offline":
		bad(tunssm.Unavailable, "decision", "no KDC answers", "")
	case q.To != "bo":
		bad(tunssm.Nowhere, "peer", "no peer has "+q.To, "see")
	}
	for _, name := range []string{"route", "peer", "decision", "session"} {
		if s, ok := steps[name]; ok {
			s.Name = name
			tr.Steps = append(tr.Steps, s)
		}
	}
	return tr, nil
}

// fakeSSM serves a fake until SIGTERM or `ssm down`; with the argument "waiting", one that no KDC has
// welcomed, with "parted", one that has lost them.
func fakeSSM() {
	ctx, stop := daemon.SignalContext()
	defer stop()
	dir := os.Getenv(dirEnv)
	socket, err := daemon.ListenUnix(filepath.Join(dir, socketName))
	if err == nil {
		socket, err = daemon.Occupy(dir, socket)
	}
	if err == nil {
		err = serve(ctx, &fake{waiting: slices.Contains(os.Args, "waiting"), parted: slices.Contains(os.Args, "parted"),
			service: os.Getenv("FAKE_SERVICE")}, socket, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Rekey replaces the session with bo, who alone has one.
func (f *fake) Rekey(peer string) error {
	if peer != "bo" {
		return tunssm.ErrNotFound
	}
	f.rekeys.Add(1)
	return nil
}

// Reroute changes nothing here: what it comes to is tested in package tunssm.
func (*fake) Reroute() error { return nil }

// CloseSession ends nothing here: what it comes to is tested in package tunssm.
func (f *fake) CloseSession(peer string) error {
	if peer != "bo" {
		return tunssm.ErrNotFound
	}
	return nil
}
