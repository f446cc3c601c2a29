package kdc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/policy"
)

// The operations change the store and return once the KDC's own snapshot has the change, so that the next decision
// sees it. They are safe for concurrent use and need Serve to be running (ErrNotServing). Errors are one line; callers
// branch on the sentinels in errors.go.

// defaultTokenTTL and maxTokenTTL bound how long a token can be redeemed, by the wall clock.
const (
	defaultTokenTTL = 24 * time.Hour
	maxTokenTTL     = 30 * 24 * time.Hour
)

// Limits of one peer.
const (
	maxAddresses = control.MaxAddresses
	maxSubnets   = 64
	maxTags      = 64
)

// NewPeer is what AddPeer makes a peer of.
type NewPeer struct {
	Name      string         `json:"name"`
	Addresses []netip.Addr   `json:"addresses,omitempty"` // none: the first free of each overlay
	Subnets   []netip.Prefix `json:"subnets,omitempty"`
	Tags      []string       `json:"tags,omitempty"`
	TokenTTL  time.Duration  `json:"token_ttl,omitempty"` // nanoseconds; zero: a day
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

// AddPeer makes a peer, and its token or identity. ErrConflict: the name, an address or a subnet is taken.
func (k *KDC) AddPeer(ctx context.Context, n NewPeer) (Enrolment, error) {
	var enrolment Enrolment
	_, err := k.change(ctx, func(s *snapshot) (w write, err error) {
		record, err := k.newPeer(s, n)
		if err != nil {
			return write{}, err
		}
		key, kept := k.newKey(n.Name)
		defer key.Destroy()
		if n.Identity {
			record.Current = kept
		} else {
			record.Token, kept.Expires = kept, k.expiry(n.TokenTTL)
		}
		if enrolment, err = k.enrolment(n.Name, record, key, kept); err != nil {
			return write{}, err
		}
		w = allot(s)
		w.add(write{[]store.Condition{{Key: peerKey(n.Name)}}, []store.Op{put(peerKey(n.Name), record)}})
		return w, nil
	})
	if err != nil {
		return Enrolment{}, err
	}
	k.audit.add(event{Event: "peer.add", Peer: n.Name, Note: noteIdentity(n.Identity)})
	return enrolment, nil
}

func noteIdentity(direct bool) string {
	if direct {
		return "identity"
	}
	return "token"
}

// allot is the condition that no address or subnet has been given or taken since s, and the change that says so.
func allot(s *snapshot) write {
	return write{
		[]store.Condition{{Key: allotmentKey, Revision: s.allotment}},
		[]store.Op{put(allotmentKey, uint64(s.revision))},
	}
}

// newPeer checks what is asked for and allots the addresses.
func (k *KDC) newPeer(s *snapshot, n NewPeer) (record peerRecord, err error) {
	if !control.ValidName(n.Name) {
		return record, fmt.Errorf("%w name %q: names have 1 to 63 of a-z, 0-9 and -, and do not begin with -",
			ErrInvalid, n.Name)
	}
	if s.peers[n.Name] != nil {
		return record, fmt.Errorf("%w: there is a peer %s already", ErrConflict, n.Name)
	}
	if err := checkTTL(n.TokenTTL); err != nil {
		return record, err
	}
	record = peerRecord{UID: control.NewKeyID(), Created: k.now().UTC()}
	if record.Tags, err = addTags(nil, n.Tags); err != nil {
		return record, err
	}
	if record.Subnets, err = k.addSubnets(s, n.Name, nil, n.Subnets); err != nil {
		return record, err
	}
	if record.Addresses, err = k.addresses(s, n.Addresses, record.Subnets); err != nil {
		return record, err
	}
	return record, k.carried(s, n.Name, record)
}

func checkTTL(ttl time.Duration) error {
	if ttl < 0 || ttl > maxTokenTTL {
		return fmt.Errorf("%w token lifetime %s: at most %s", ErrInvalid, ttl, maxTokenTTL)
	}
	return nil
}

func (k *KDC) expiry(ttl time.Duration) time.Time {
	if ttl == 0 {
		ttl = defaultTokenTTL
	}
	return k.now().Add(ttl).UTC()
}

// enrolment is what the peer needs in order to enrol; key is a token's or the permanent one.
func (k *KDC) enrolment(name string, r peerRecord, key secret.Key, kept *keyRecord) (e Enrolment, err error) {
	id := control.Identity{Name: name, KeyID: kept.ID, Key: key, KDCs: k.Config().Addresses}
	e = Enrolment{Name: name, Addresses: r.Addresses, Expires: kept.Expires}
	if kept.Expires.IsZero() {
		e.Identity, err = id.Marshal()
	} else {
		e.Token, err = control.Token(id).Reveal()
	}
	return e, err
}

// NewToken makes a new token for a peer; an older one dies. A key that is already in use goes on until the new one is
// redeemed and used; so does a rotation. A ttl of zero is a day.
func (k *KDC) NewToken(ctx context.Context, name string, ttl time.Duration) (Enrolment, error) {
	if err := checkTTL(ttl); err != nil {
		return Enrolment{}, err
	}
	var enrolment Enrolment
	_, err := k.changePeer(ctx, name, func(s *snapshot, r *peerRecord) (err error) {
		key, token := k.newKey(name)
		defer key.Destroy()
		token.Expires = k.expiry(ttl)
		r.newToken(token)
		enrolment, err = k.enrolment(name, *r, key, token)
		return err
	})
	if err != nil {
		return Enrolment{}, err
	}
	k.audit.add(event{Event: "peer.token", Peer: name})
	return enrolment, nil
}

// changePeer applies edit to the record of one peer.
func (k *KDC) changePeer(ctx context.Context, name string, edit func(*snapshot, *peerRecord) error) (*receipts, error) {
	return k.change(ctx, func(s *snapshot) (write, error) {
		p := s.peers[name]
		if p == nil {
			return write{}, noPeer(name)
		}
		record := p.record.clone()
		if err := edit(s, &record); err != nil {
			return write{}, err
		}
		w := k.replace(p, record)
		if !slices.Equal(record.Subnets, p.record.Subnets) {
			w.add(allot(s))
		}
		return w, nil
	})
}

func noPeer(name string) error { return fmt.Errorf("peer %q: %w", name, ErrNotFound) }

// ChangePeer changes tags and subnets. Sessions that policy no longer permits are revoked, those of which it permits less
// narrowed.
func (k *KDC) ChangePeer(ctx context.Context, name string, c PeerChange) (PeerInfo, error) {
	_, err := k.changePeer(ctx, name, func(s *snapshot, r *peerRecord) (err error) {
		r.Tags = slices.DeleteFunc(r.Tags, func(t string) bool { return slices.Contains(c.RemoveTags, t) })
		if r.Tags, err = addTags(r.Tags, c.AddTags); err != nil {
			return err
		}
		r.Subnets = slices.DeleteFunc(r.Subnets, func(p netip.Prefix) bool { return slices.Contains(c.RemoveSubnets, p) })
		if r.Subnets, err = k.addSubnets(s, name, r.Subnets, c.AddSubnets); err != nil {
			return err
		}
		return k.carried(s, name, *r)
	})
	if err != nil {
		return PeerInfo{}, err
	}
	k.audit.add(event{Event: "peer.set", Peer: name, Note: fmt.Sprintf("tags +%v -%v subnets +%v -%v",
		c.AddTags, c.RemoveTags, c.AddSubnets, c.RemoveSubnets)})
	return k.Peer(name)
}

// SuspendPeer revokes the peer's sessions at both sides, closes its connection and refuses it from now on.
func (k *KDC) SuspendPeer(ctx context.Context, name string) ([]Receipt, error) {
	r, err := k.setSuspended(ctx, name, true)
	if err != nil {
		return nil, err
	}
	k.audit.add(event{Event: "peer.suspend", Peer: name})
	return k.receiptsFor(ctx, name, r), nil
}

// ResumePeer lets a suspended peer in again.
func (k *KDC) ResumePeer(ctx context.Context, name string) error {
	_, err := k.setSuspended(ctx, name, false)
	if err == nil {
		k.audit.add(event{Event: "peer.resume", Peer: name})
	}
	return err
}

func (k *KDC) setSuspended(ctx context.Context, name string, to bool) (*receipts, error) {
	return k.changePeer(ctx, name, func(_ *snapshot, r *peerRecord) error {
		r.Suspended = to
		return nil
	})
}

// RemovePeer forgets the peer and its keys; its sessions are revoked as SuspendPeer does.
func (k *KDC) RemovePeer(ctx context.Context, name string) ([]Receipt, error) {
	r, err := k.change(ctx, func(s *snapshot) (write, error) {
		p := s.peers[name]
		if p == nil {
			return write{}, noPeer(name)
		}
		w := allot(s)
		w.add(write{
			[]store.Condition{{Key: peerKey(name), Revision: p.revision}}, []store.Op{store.Delete(peerKey(name))},
		})
		return w, nil
	})
	if err != nil {
		return nil, err
	}
	k.audit.add(event{Event: "peer.remove", Peer: name})
	return k.receiptsFor(ctx, name, r), nil
}

// receiptsFor waits for the acks and picks the receipts of sessions that the peer took part in.
func (k *KDC) receiptsFor(ctx context.Context, name string, r *receipts) []Receipt {
	all := k.wait(ctx, r, receiptWait)
	its := map[control.SessionID]bool{}
	for _, r := range all {
		if r.Peer == name {
			its[r.Session] = true
		}
	}
	return slices.DeleteFunc(all, func(r Receipt) bool { return !its[r.Session] })
}

// addTags adds to the tags of a peer, which stay sorted and distinct.
func addTags(to, tags []string) ([]string, error) {
	for _, t := range tags {
		if !policy.ValidTag(t) {
			return nil, fmt.Errorf("%w tag %q: tags have 1 to 63 of a-z, 0-9 and -, and do not begin with -", ErrInvalid, t)
		}
		to = append(to, t)
	}
	slices.Sort(to)
	if to = slices.Compact(to); len(to) > maxTags {
		return nil, fmt.Errorf("%w: %d tags on one peer, at most %d", ErrInvalid, len(to), maxTags)
	}
	return to, nil
}
