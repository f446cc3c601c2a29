package kdc

import (
	"net/netip"
	"time"

	"ssmnet/packet/control"
)

// Status is the KDC at a glance.
type Status struct {
	Service           string         `json:"service,omitempty"` // the systemd unit that runs it
	Since             time.Time      `json:"since"`             // of this run
	Uptime            float64        `json:"uptime_seconds"`    // of this run, on the monotonic clock
	PeersKnown        int            `json:"peers_known"`
	PeersOnline       int            `json:"peers_online"`
	Sessions          int            `json:"sessions"`            // live, as far as their ends have reported
	Requests          uint64         `json:"requests"`            // KeyRequests of this run
	Grants            uint64         `json:"grants"`              // of them granted
	Denials           uint64         `json:"denials"`             // of them refused, for whatever reason
	Lookups           uint64         `json:"lookups"`             // of this run; none is a decision on a key
	RequestsPerSecond float64        `json:"requests_per_second"` // over the last seconds
	PolicyRevision    uint64         `json:"policy_revision"`     // zero: no policy, all denied
	AsOf              control.AsOf   `json:"as_of"`
	Audit             string         `json:"audit"`    // "ok", or why decisions cannot be recorded
	Store             string         `json:"store"`    // "ok", or for how long, and why, the KDC has been cut off from it
	Detached          bool           `json:"detached"` // cut off for so long that no key is issued
	Addresses         []string       `json:"addresses"`
	Listen            []string       `json:"listen"`
	Overlays          []netip.Prefix `json:"overlays"`
}

// PeerState says how far a peer is with its permanent key.
type PeerState string

const (
	StateToken     PeerState = "token"     // a token waits to be redeemed
	StateExpired   PeerState = "expired"   // the token has died unredeemed
	StateEnrolled  PeerState = "enrolled"  // it has a permanent key
	StateSuspended PeerState = "suspended" // an operator suspended it
)

// PeerInfo is a peer as an operator sees it.
type PeerInfo struct {
	Name         string           `json:"name"`
	Addresses    []netip.Addr     `json:"addresses"`
	Subnets      []netip.Prefix   `json:"subnets"`
	Tags         []string         `json:"tags"`
	State        PeerState        `json:"state"`
	Created      time.Time        `json:"created"`
	KeyID        control.KeyID    `json:"key_id,omitzero"`      // of the permanent key in use
	NextKeyID    control.KeyID    `json:"next_key_id,omitzero"` // of the one that a rotation under way replaces it by
	TokenExpires time.Time        `json:"token_expires,omitzero"`
	Online       bool             `json:"online"`
	Source       string           `json:"source,omitempty"` // underlay address of its control connection
	Endpoints    []netip.AddrPort `json:"endpoints"`        // candidates for frames, the first tried first
	Boot         control.Boot     `json:"boot,omitzero"`
	Since        time.Time        `json:"since,omitzero"`     // of its connection
	LastSeen     time.Time        `json:"last_seen,omitzero"` // in this run of the KDC
	Software     string           `json:"software,omitempty"`
	Sessions     int              `json:"sessions"`
}

// NewPeer is what AddPeer makes a peer of.
type NewPeer struct {
	Name      string         `json:"name"`
	Addresses []netip.Addr   `json:"addresses,omitempty"` // none: the first free of each overlay
	Subnets   []netip.Prefix `json:"subnets,omitempty"`
	Tags      []string       `json:"tags,omitempty"`
	TokenTTL  time.Duration  `json:"token_ttl,omitempty"` // nanoseconds; zero: DefaultTokenTTL
	Identity  bool           `json:"identity,omitempty"`  // no token: the identity itself, to carry by hand
}

// Enrolment is what a new peer needs. It is the only answer that carries a secret; whoever holds it keeps it so.
type Enrolment struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Token     string       `json:"token,omitempty"`
	Expires   time.Time    `json:"expires,omitzero"`
	Identity  []byte       `json:"identity,omitempty"` // contents of an identity file, where it was asked for
}

// PeerChange is what ChangePeer adds and removes; removing what is not there changes nothing.
type PeerChange struct {
	AddTags       []string       `json:"add_tags,omitempty"`
	RemoveTags    []string       `json:"remove_tags,omitempty"`
	AddSubnets    []netip.Prefix `json:"add_subnets,omitempty"`
	RemoveSubnets []netip.Prefix `json:"remove_subnets,omitempty"`
}

// PolicyReport is the outcome of checking or applying a policy.
type PolicyReport struct {
	Revision uint64    `json:"revision,omitempty"` // that it was given; zero where it was only checked
	Grants   int       `json:"grants"`
	Warnings []string  `json:"warnings"`
	Revoked  []Receipt `json:"revoked"`
	Narrowed []Receipt `json:"narrowed"`
}

// PolicyRevision is one policy as it was applied.
type PolicyRevision struct {
	Revision uint64    `json:"revision"` // zero: none has been applied, and all is denied
	Applied  time.Time `json:"applied,omitzero"`
	Note     string    `json:"note,omitempty"`
	Text     string    `json:"text"`
}

// SessionInfo is a live session.
type SessionInfo struct {
	ID        control.SessionID `json:"id"`
	Requester string            `json:"requester"`
	Responder string            `json:"responder"`
	Since     time.Time         `json:"since"`
	AsOf      control.AsOf      `json:"as_of"`
	Suite     string            `json:"suite,omitempty"`     // unknown where another run of the KDC issued it
	Selectors []string          `json:"selectors,omitempty"` // likewise, until it is known that it has no others
	Grant     string            `json:"grant,omitempty"`     // id of the grant that permitted the request; likewise
}

// SessionEventKind says what has become of a session. Programs read it: append only.
type SessionEventKind string

const (
	SessionLive     SessionEventKind = "live"     // it was there when the watch began; its time is that of its opening
	SessionOpened   SessionEventKind = "opened"   // granted, or reported by its ends
	SessionNarrowed SessionEventKind = "narrowed" // policy permits less of it; its ends are being told
	SessionRevoked  SessionEventKind = "revoked"  // by an operator or by policy; its ends are being told
	SessionClosed   SessionEventKind = "closed"   // its ends have destroyed it
	EventsMissed    SessionEventKind = "missed"   // the reader was too slow for some events, which are lost to it
)

// SessionEvent is one line of WatchSessions.
type SessionEvent struct {
	Time      time.Time         `json:"time"`
	Event     SessionEventKind  `json:"event"`
	Session   control.SessionID `json:"session,omitzero"`
	Requester string            `json:"requester,omitempty"`
	Responder string            `json:"responder,omitempty"`
	Reason    string            `json:"reason,omitempty"` // of a revocation
	Missed    uint64            `json:"missed,omitempty"` // how many events
}

// SessionFilter chooses sessions: those that match every field that is set. With none set and All false it chooses
// nothing to revoke, and everything to list.
type SessionFilter struct {
	ID    control.SessionID `json:"id,omitzero"`
	Peer  string            `json:"peer,omitempty"`
	PairA string            `json:"pair_a,omitempty"` // with PairB: sessions between the two, whoever asked
	PairB string            `json:"pair_b,omitempty"`
	All   bool              `json:"all,omitempty"`
}

// RotationState says whether a peer has taken its new permanent key.
type RotationState string

const (
	Rotated         RotationState = "rotated" // the new key is in use and the one before it is dead
	RotationPending RotationState = "pending" // the peer is offline, or has not used the new key yet
)

// Rotation is one peer's change of its permanent key.
type Rotation struct {
	Peer  string        `json:"peer"`
	KeyID control.KeyID `json:"key_id"` // of the new key
	State RotationState `json:"state"`
}

// Rotations are what RotatePeer and RotateAll began.
type Rotations struct {
	Rotations []Rotation `json:"rotations"`
	Skipped   int        `json:"skipped"` // peers that have never enrolled, and have no key to rotate
}

// ReceiptState says whether one side has confirmed that a revoked session is gone.
type ReceiptState string

const (
	ReceiptAcked   ReceiptState = "acked"
	ReceiptPending ReceiptState = "pending" // not reachable, or no answer yet
)

// Receipt is one side's confirmation that a session was destroyed or, where it says so, narrowed.
type Receipt struct {
	Session control.SessionID `json:"session"`
	Peer    string            `json:"peer"`
	State   ReceiptState      `json:"state"`
	At      time.Time         `json:"at"` // of the ack, or of the revocation while it is pending

	Narrowed bool `json:"narrowed,omitempty"`
}
