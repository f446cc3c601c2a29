package kdc

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet/control"
)

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

// Peers lists all peers by name.
func (k *KDC) Peers() []PeerInfo {
	s := k.snapshot.Load()
	list := make([]PeerInfo, 0, len(s.peers))
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		list = append(list, k.describe(s.peers[name]))
	}
	return list
}

// Peer gives one peer, or ErrNotFound.
func (k *KDC) Peer(name string) (PeerInfo, error) {
	p := k.snapshot.Load().peers[name]
	if p == nil {
		return PeerInfo{}, noPeer(name)
	}
	return k.describe(p), nil
}

func (k *KDC) describe(p *peer) PeerInfo {
	r := p.record
	info := PeerInfo{
		Name: p.name, Addresses: r.Addresses, Subnets: r.Subnets, Tags: r.Tags, State: k.state(r),
		Created: r.Created,
	}
	if r.Current != nil {
		info.KeyID = r.Current.ID
	}
	if next := r.rotating(); next != nil {
		info.NextKeyID = next.ID
	}
	if r.Token != nil {
		info.TokenExpires = r.Token.Expires
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	live := k.live[p.name]
	if live == nil || live.uid != r.UID {
		return info
	}
	info.Sessions, info.Boot = len(live.sessions), live.boot
	seen := live.lastSeen
	if c := live.conn; c != nil {
		info.Online, info.Endpoints, info.Boot = true, c.candidates, c.boot
		info.Source, info.Since, info.Software = c.conn.RemoteAddr().String(), c.since.UTC(), c.software
		seen = c.lastSeen.Load()
	}
	if seen != 0 {
		info.LastSeen = time.Unix(0, seen).UTC()
	}
	return info
}

func (k *KDC) state(r peerRecord) PeerState {
	switch {
	case r.Suspended:
		return StateSuspended
	case r.Current != nil:
		return StateEnrolled
	case r.Token != nil && !k.now().Before(r.Token.Expires):
		return StateExpired
	}
	return StateToken
}
