package main

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
	"ssmnet/packet/control"
)

var (
	fakeTime  = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	fakeFirst = control.SessionID{0xaa, 15: 1}
	fakeOther = control.SessionID{0xbb, 15: 2}
)

// fake is a KDC with two peers and two sessions, one of them with a side that is not reachable. It answers the calls
// that the scripts make of it.
type fake struct {
	admin.Operations
	removed []string
}

func (*fake) Status() kdc.Status {
	return kdc.Status{
		Since: fakeTime, Uptime: 3661, PeersKnown: 2, PeersOnline: 1, Sessions: 2, Requests: 30, Grants: 20, Denials: 10, Lookups: 7,
		RequestsPerSecond: 1.25, PolicyRevision: 4, AsOf: control.AsOf{Epoch: 1, Revision: 9}, Audit: "ok",
		Store:     "ok",
		Addresses: []string{"192.0.2.1:7600"}, Listen: []string{"[::]:7600"},
		Overlays: []netip.Prefix{netip.MustParsePrefix("100.80.0.0/12")},
	}
}

func (*fake) Peer(name string) (kdc.PeerInfo, error) {
	if name != "ana" {
		return kdc.PeerInfo{}, fmt.Errorf("peer %s: %w", name, kdc.ErrNotFound)
	}
	return kdc.PeerInfo{
		Name: "ana", Addresses: []netip.Addr{netip.MustParseAddr("100.80.0.2")}, Tags: []string{"db", "web"},
		State: kdc.StateEnrolled, Created: fakeTime, KeyID: control.KeyID{1, 7: 1}, Online: true,
		Source: "192.0.2.7:40000", Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:7601")},
		Boot: control.Boot{2, 15: 2}, Since: fakeTime, LastSeen: fakeTime, Software: "ssm v1", Sessions: 2,
	}, nil
}

func (f *fake) Peers() []kdc.PeerInfo {
	p, _ := f.Peer("ana")
	return []kdc.PeerInfo{p, {Name: "bo", State: kdc.StateToken, Created: fakeTime, TokenExpires: fakeTime}}
}

func (*fake) AddPeer(_ context.Context, n kdc.NewPeer) (kdc.Enrolment, error) {
	return kdc.Enrolment{Name: n.Name, Identity: []byte("the identity\n")}, nil
}

func (f *fake) RemovePeer(_ context.Context, name string) ([]kdc.Receipt, error) {
	f.removed = append(f.removed, name)
	return nil, nil
}

func (*fake) SuspendPeer(context.Context, string) ([]kdc.Receipt, error) {
	return fakeReceipts(fakeFirst, kdc.ReceiptPending), nil
}

// RotatePeer and RotateAll tell of a peer that has its key and of one that is offline.
func (f *fake) RotatePeer(context.Context, string, time.Duration) (kdc.Rotations, error) {
	return kdc.Rotations{Rotations: []kdc.Rotation{{Peer: "ana", KeyID: control.KeyID{3, 7: 3}, State: kdc.Rotated}}}, nil
}

func (f *fake) RotateAll(context.Context, time.Duration) (kdc.Rotations, error) {
	return kdc.Rotations{Skipped: 1, Rotations: []kdc.Rotation{
		{Peer: "ana", KeyID: control.KeyID{3, 7: 3}, State: kdc.Rotated},
		{Peer: "bo", KeyID: control.KeyID{4, 7: 4}, State: kdc.RotationPending},
	}}, nil
}

func (*fake) Sessions(f kdc.SessionFilter) []kdc.SessionInfo {
	all := []kdc.SessionInfo{
		{ID: fakeFirst, Requester: "ana", Responder: "bo", Since: fakeTime, AsOf: control.AsOf{Epoch: 1, Revision: 9},
			Suite: "aes-256-gcm", Selectors: []string{"100.80.0.2/32 > 100.80.0.3/32 tcp/22", "second"}, Grant: "ops-ssh"},
		{ID: fakeOther, Requester: "cy", Responder: "ana", Since: fakeTime},
	}
	var found []kdc.SessionInfo
	for _, s := range all {
		if (f.ID == control.SessionID{} || f.ID == s.ID) && (f.Peer == "" || f.Peer == s.Requester || f.Peer == s.Responder) {
			found = append(found, s)
		}
	}
	return found
}

// WatchSessions ends after three events, as that of a KDC that stops.
func (f *fake) WatchSessions(ctx context.Context, filter kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error) {
	if filter.Peer == "busy" {
		return nil, fmt.Errorf("%w watch sessions: at most 32 do at a time", kdc.ErrTooMany)
	}
	s := f.Sessions(filter)[0]
	e := kdc.SessionEvent{
		Time: fakeTime, Event: kdc.SessionLive, Session: s.ID, Requester: s.Requester, Responder: s.Responder,
	}
	revoked := e
	revoked.Event, revoked.Reason = kdc.SessionRevoked, "operator"
	missed := kdc.SessionEvent{Time: fakeTime, Event: kdc.EventsMissed, Missed: 7}
	return slices.Values([]kdc.SessionEvent{e, revoked, missed}), nil
}

func (*fake) ResumePeer(context.Context, string) error {
	return fmt.Errorf("%w (cut off for 2m0s: no route): use another KDC, or mend the store", kdc.ErrDetached)
}

// RevokeSessions tells in the receipts what it was asked.
func (*fake) RevokeSessions(_ context.Context, f kdc.SessionFilter, _ time.Duration) ([]kdc.Receipt, error) {
	switch {
	case f.ID == fakeFirst, f.PairA == "ana" && f.PairB == "bo":
		return fakeReceipts(fakeFirst, kdc.ReceiptAcked), nil
	case f.Peer == "ana", f.All:
		return append(fakeReceipts(fakeFirst, kdc.ReceiptAcked), fakeReceipts(fakeOther, kdc.ReceiptPending)...), nil
	}
	return nil, fmt.Errorf("no live session matches: %w", kdc.ErrNotFound)
}

func fakeReceipts(id control.SessionID, second kdc.ReceiptState) []kdc.Receipt {
	return []kdc.Receipt{
		{Session: id, Peer: "ana", State: kdc.ReceiptAcked, At: fakeTime},
		{Session: id, Peer: "bo", State: second, At: fakeTime},
	}
}

// fakeKDC serves a fake until SIGTERM.
func fakeKDC() {
	ctx, stop := daemon.SignalContext()
	defer stop()
	l, err := daemon.ListenUnix(filepath.Join(os.Getenv(dirEnv), socketName))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	http.Serve(l, admin.Handler(&fake{}))
}
