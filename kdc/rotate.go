package kdc

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"ssmnet/packet/control"
)

// A rotation gives a peer that has a permanent key another one (enrol.go). Its next key goes, once for each connection,
// to whatever connection runs under current: at once where there is one, otherwise after the next Hello. So a RotateKey
// that is lost, or a KDC that stops between storing and sending, does no harm, and every KDC on the store delivers. It
// goes to a copy of the identity too, if that is what is connected: against a copy only a new token helps.

// rotateAtOnce is how many peers' keys one change to the store replaces.
const rotateAtOnce = 64

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

// RotatePeer makes a new permanent key for a peer, and waits for it to be in use if the peer is connected. A suspended
// peer gets it when it is resumed. ErrConflict: the peer has no key yet.
func (k *KDC) RotatePeer(ctx context.Context, name string, wait time.Duration) (Rotations, error) {
	begun, err := k.rotate(ctx, []string{name})
	switch {
	case err != nil:
		return Rotations{}, err
	case begun.Skipped > 0:
		return Rotations{}, fmt.Errorf("%w: peer %s has no permanent key to rotate: it enrols with a token "+
			"('kdc peer token %s')", ErrConflict, name, name)
	case len(begun.Rotations) == 0:
		return Rotations{}, noPeer(name)
	}
	k.settle(ctx, begun.Rotations, wait)
	return begun, nil
}

// RotateAll is RotatePeer of every peer that has a key.
func (k *KDC) RotateAll(ctx context.Context, wait time.Duration) (Rotations, error) {
	var all Rotations
	names := slices.Sorted(maps.Keys(k.snapshot.Load().peers))
	for some := range slices.Chunk(names, rotateAtOnce) {
		begun, err := k.rotate(ctx, some)
		if err != nil {
			return Rotations{}, err
		}
		all.Rotations, all.Skipped = append(all.Rotations, begun.Rotations...), all.Skipped+begun.Skipped
	}
	k.settle(ctx, all.Rotations, wait)
	return all, nil
}

// rotate stores next keys for those of the named peers that exist; publishing the change delivers them.
func (k *KDC) rotate(ctx context.Context, names []string) (begun Rotations, err error) {
	var events []event
	_, err = k.change(ctx, func(s *snapshot) (w write, err error) {
		begun, events = Rotations{}, nil
		for _, name := range names {
			p := s.peers[name]
			if p == nil {
				continue
			}
			if p.record.Current == nil {
				begun.Skipped++
				continue
			}
			key, next := k.newKey(name)
			key.Destroy() // opened again when it is sent
			record := p.record.clone()
			record.rotate(next)
			w.add(k.replace(p, record))
			begun.Rotations = append(begun.Rotations, Rotation{Peer: name, KeyID: next.ID, State: RotationPending})
			events = append(events, event{Event: "key.rotate", Peer: name, KeyID: next.ID, Note: p.record.replacing()})
		}
		return w, nil
	})
	if err != nil {
		return Rotations{}, err
	}
	for _, e := range events {
		k.audit.add(e)
		k.log.Info("rotating a permanent key", "peer", e.Peer, "key_id", e.KeyID)
	}
	return begun, nil
}

// sendNext sends a connection the next key that a rotation has made for its peer, if it runs under the current one and
// has not been sent it. KDC.gate is held.
func (k *KDC) sendNext(s *snapshot, c *connection) {
	p := s.peers[c.name]
	if p == nil || p.record.UID != c.uid || p.record.rotating() == nil || !sameKey(p.record.Current, c.keyID) {
		return
	}
	next := p.record.rotating()
	k.mu.Lock()
	sent := c.next == next.ID
	c.next = next.ID
	k.mu.Unlock()
	if sent {
		return
	}
	key, err := k.ring.open(c.name, next.ID, next.Sealed)
	if err != nil {
		k.log.Error("a key cannot be used", "peer", c.name, "key_id", next.ID, "error", err)
		return
	}
	defer key.Destroy()
	m := &control.RotateKey{KeyID: next.ID, Key: bytes.Clone(key.Bytes())}
	c.conn.Send(0, m)
	clear(m.Key)
}

// settle waits for the new keys of connected peers to be in use, and notes of each peer whether its is.
func (k *KDC) settle(ctx context.Context, list []Rotation, limit time.Duration) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		k.mu.Lock()
		published := k.published
		waiting := false
		s := k.snapshot.Load()
		for i, r := range list {
			p := s.peers[r.Peer]
			switch {
			case p == nil:
			case sameKey(p.record.Current, r.KeyID):
				list[i].State = Rotated
			default:
				waiting = waiting || sameKey(p.record.Next, r.KeyID) && k.connected(r.Peer) != nil
			}
		}
		k.mu.Unlock()
		if !waiting {
			return
		}
		select {
		case <-published:
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		case <-k.stopped:
			return
		}
	}
}
