package admin

import (
	"context"
	"iter"
	"time"

	"ssmnet/kdc"
)

// Operations is what the API offers of a KDC; *kdc.KDC has it, and documents each method.
type Operations interface {
	Status() kdc.Status

	AddPeer(ctx context.Context, n kdc.NewPeer) (kdc.Enrolment, error)
	Peers() []kdc.PeerInfo
	Peer(name string) (kdc.PeerInfo, error)
	ChangePeer(ctx context.Context, name string, c kdc.PeerChange) (kdc.PeerInfo, error)
	SuspendPeer(ctx context.Context, name string) ([]kdc.Receipt, error)
	ResumePeer(ctx context.Context, name string) error
	RemovePeer(ctx context.Context, name string) ([]kdc.Receipt, error)
	NewToken(ctx context.Context, name string, ttl time.Duration) (kdc.Enrolment, error)
	RotatePeer(ctx context.Context, name string, wait time.Duration) (kdc.Rotations, error)
	RotateAll(ctx context.Context, wait time.Duration) (kdc.Rotations, error)

	CheckPolicy(ctx context.Context, text []byte) (kdc.PolicyReport, error)
	ApplyPolicy(ctx context.Context, text []byte, ifRevision *uint64, note string) (kdc.PolicyReport, error)
	Policy(ctx context.Context, revision uint64) (kdc.PolicyRevision, error)

	Sessions(f kdc.SessionFilter) []kdc.SessionInfo
	WatchSessions(ctx context.Context, f kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error)
	RevokeSessions(ctx context.Context, f kdc.SessionFilter, wait time.Duration) ([]kdc.Receipt, error)
}

var _ Operations = (*kdc.KDC)(nil)

// MaxWait bounds how long a revocation waits for receipts, and a rotation for new keys to be in use.
const MaxWait = 10 * time.Minute

// Bodies that are not types of package kdc.
type (
	empty struct{}

	peersBody struct {
		Peers []kdc.PeerInfo `json:"peers"`
	}
	sessionsBody struct {
		Sessions []kdc.SessionInfo `json:"sessions"`
	}
	receiptsBody struct {
		Receipts []kdc.Receipt `json:"receipts"`
	}
	tokenBody struct {
		TTL time.Duration `json:"token_ttl"`
	}
	waitBody struct {
		Wait time.Duration `json:"wait"`
	}
	revokeBody struct {
		kdc.SessionFilter
		Wait time.Duration `json:"wait"`
	}
)
