package kdc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ssmnet/packet/control"
)

const (
	revokedFor = 60 * time.Second // how long the id of a revoked session is remembered
	maxRevoked = 1 << 20          // ids remembered, the newest
)

// RevokeSessions destroys the sessions at both sides and waits up to wait for their acks. The next packet acquires a
// new session if policy permits. ErrNotFound: none matches; ErrInvalid: the filter chooses nothing in particular.
func (k *KDC) RevokeSessions(ctx context.Context, f SessionFilter, wait time.Duration) ([]Receipt, error) {
	if f == (SessionFilter{}) || (f.PairA == "") != (f.PairB == "") {
		return nil, fmt.Errorf("%w: name a session, a peer, a pair, or all", ErrInvalid)
	}
	if err := k.isServing(); err != nil {
		return nil, err
	}
	k.gate.RLock()
	var doomed []*session
	k.mu.Lock()
	for _, s := range k.sessions {
		if f.chosen(s) {
			doomed = append(doomed, s)
		}
	}
	k.mu.Unlock()
	r := newReceipts()
	k.revoke(doomed, control.Operator, r)
	k.complete(r)
	k.gate.RUnlock()
	if len(doomed) == 0 && !f.All {
		return nil, fmt.Errorf("live session: %w", ErrNotFound)
	}
	return k.wait(ctx, r, wait), nil
}

// revoke takes sessions out of the registry and makes both sides destroy them; r takes the receipts. KDC.gate is held.
func (k *KDC) revoke(sessions []*session, reason control.Reason, r *receipts) {
	orders := map[*connection][]control.SessionID{}
	k.mu.Lock()
	for _, s := range sessions {
		if k.sessions[s.id] != s {
			continue
		}
		k.revoked.add(s.id, reason)
		for _, end := range s.sides {
			if c := k.owe(r, end, debt{session: s.id, reason: reason}); c != nil {
				orders[c] = append(orders[c], s.id)
			}
		}
		k.dropSession(s)
		k.tellWatchers(SessionRevoked, s, reason)
		k.audit.add(event{
			Event: "revoke", Session: s.id, Requester: s.sides[0].peer, Responder: s.sides[1].peer, Reason: reason.String(),
		})
	}
	k.mu.Unlock()
	for c, ids := range orders {
		k.order(c, ids, reason)
	}
}

// order sends the ids, as many to a message as it takes.
func (k *KDC) order(c *connection, ids []control.SessionID, reason control.Reason) {
	asOf := k.snapshot.Load().asOf
	for part := range slices.Chunk(ids, control.MaxReported) {
		if c.conn.Send(0, &control.Revoke{Sessions: part, Reason: reason, AsOf: asOf}) != nil {
			return
		}
	}
}

// onRevokeAck takes a RevokeAck.
func (k *KDC) onRevokeAck(c *connection, m *control.RevokeAck) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.live[c.name]
	if p == nil {
		return
	}
	for _, id := range m.Sessions {
		if d := p.owed[id]; d != nil && d.narrow == nil && d.boot == c.boot {
			k.acknowledge(p, d)
		}
	}
}

// revokedIDs remembers what was revoked for a while, so that a late report does not bring it back.
type revokedIDs struct {
	reasons map[control.SessionID]control.Reason
	order   []revokedID
}

type revokedID struct {
	id control.SessionID
	at time.Time
}

func (r *revokedIDs) add(id control.SessionID, reason control.Reason) {
	now := time.Now()
	for len(r.order) > 0 && (now.Sub(r.order[0].at) > revokedFor || len(r.order) >= maxRevoked) {
		delete(r.reasons, r.order[0].id)
		r.order = r.order[1:]
	}
	if _, twice := r.reasons[id]; !twice {
		r.reasons[id] = reason
		r.order = append(r.order, revokedID{id, now})
	}
}

func (r *revokedIDs) has(id control.SessionID) (control.Reason, bool) {
	reason, ok := r.reasons[id]
	return reason, ok
}
