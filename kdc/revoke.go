package kdc

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"ssmnet/packet/control"
)

const (
	revokedFor     = 60 * time.Second // how long the id of a revoked session is remembered
	maxRevoked     = 1 << 20          // ids remembered, the newest
	maxOwed        = 16384            // acks that one peer owes
	revocationWait = time.Second      // for acks, in operations that are not told how long
	ackWait        = 30 * time.Second // for the acks of a peer that is let in no more; a path may come back meanwhile
)

// revocation gathers the receipts of one act of revoking, or of narrowing. It is under KDC.mu.
type revocation struct {
	receipts []Receipt
	missing  int           // receipts that a connected side still owes
	settled  chan struct{} // closed when none is missing
}

func newRevocation() *revocation { return &revocation{settled: make(chan struct{})} }

// collector gathers the revocations that come to pass while an operation runs. Its field is under KDC.mu.
type collector struct{ revocations []*revocation }

func (k *KDC) collect() *collector {
	c := new(collector)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.collectors[c] = struct{}{}
	return c
}

func (k *KDC) collected(c *collector) []*revocation {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.collectors, c)
	return c.revocations
}

// debt is an ack that a side owes. It is owed until the side acks or shows another boot, across its connections.
type debt struct {
	session control.SessionID
	reason  control.Reason  // of a revocation
	narrow  *control.Narrow // what is to be acked; nil: a revocation
	boot    control.Boot    // the run that holds the session
	in      *revocation
	at      int  // index of its receipt
	asked   bool // counted in missing: the side was connected
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

// revoke takes sessions out of the registry and makes both sides destroy them. KDC.gate is held.
func (k *KDC) revoke(sessions []*session, reason control.Reason) *revocation {
	r := newRevocation()
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
	k.announce(r)
	k.mu.Unlock()
	for c, ids := range orders {
		k.order(c, ids, reason)
	}
	return r
}

// announce makes r, whose debts are complete, known to the operations that wait for receipts. k.mu is held.
func (k *KDC) announce(r *revocation) {
	if r.missing == 0 {
		close(r.settled)
	}
	for c := range k.collectors {
		c.revocations = append(c.revocations, r)
	}
}

// owe enters the receipt of one side and gives the connection to tell it on, nil where there is none now. It takes the
// place of an earlier debt about the same session, whose ack it makes needless. k.mu is held.
func (k *KDC) owe(r *revocation, end side, d debt) *connection {
	if !end.held {
		return nil
	}
	d.boot, d.in, d.at = end.boot, r, len(r.receipts)
	r.receipts = append(r.receipts, Receipt{
		Session: d.session, Peer: end.peer, State: ReceiptPending, At: k.now().UTC(), Narrowed: d.narrow != nil,
	})
	p := k.live(end.peer)
	if old := p.owed[d.session]; old != nil {
		k.forgive(p, old)
	}
	entered := len(p.owed) < maxOwed
	if entered {
		p.owed[d.session] = &d
	}
	c := p.conn
	if c == nil {
		c = p.barred
	}
	if c == nil || c.boot != end.boot {
		return nil
	}
	if d.asked = entered; entered {
		r.missing++
	}
	return c
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

// acked takes a RevokeAck.
func (k *KDC) acked(c *connection, m *control.RevokeAck) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[c.name]
	if p == nil {
		return
	}
	for _, id := range m.Sessions {
		if d := p.owed[id]; d != nil && d.narrow == nil && d.boot == c.boot {
			k.acknowledge(p, d)
		}
	}
	if p.barred == c && len(p.owed) == 0 {
		c.conn.Send(0, &control.Refusal{Refused: control.TypeHello, Reason: control.Suspended})
		c.hangUp()
	}
}

// acknowledge makes out the receipt that a debt was for. k.mu is held.
func (k *KDC) acknowledge(p *livePeer, d *debt) {
	r := &d.in.receipts[d.at]
	r.State, r.At = ReceiptAcked, k.now().UTC()
	k.forgive(p, d)
	e := event{Event: "revoke.acked", Peer: r.Peer, Session: r.Session}
	if d.narrow != nil {
		e.Event, e.AsOf = "narrow.acked", d.narrow.AsOf
	}
	k.audit.add(e)
}

// forgive ends a debt. k.mu is held.
func (k *KDC) forgive(p *livePeer, d *debt) {
	delete(p.owed, d.session)
	d.excuse()
}

// excuse stops waiting for the ack. k.mu is held.
func (d *debt) excuse() {
	if !d.asked {
		return
	}
	d.asked = false
	if d.in.missing--; d.in.missing == 0 {
		close(d.in.settled)
	}
}

// owes says whether that run of the peer owes acks. k.mu is held.
func (p *livePeer) owes(boot control.Boot) bool {
	for _, d := range p.owed {
		if d.boot == boot {
			return true
		}
	}
	return false
}

// excuse stops waiting for all acks that the peer owes. k.mu is held.
func (p *livePeer) excuse() {
	for _, d := range p.owed {
		d.excuse()
	}
}

// remind tells a side that has come back what it still owes, and forgives what another run of it owed. KDC.gate is
// held.
func (k *KDC) remind(c *connection) {
	orders := map[control.Reason][]control.SessionID{}
	var narrow []*control.Narrow
	k.mu.Lock()
	p := k.live(c.name)
	for _, d := range p.owed {
		switch {
		case d.boot != c.boot:
			k.forgive(p, d)
		case d.narrow != nil:
			narrow = append(narrow, d.narrow)
		default:
			orders[d.reason] = append(orders[d.reason], d.session)
		}
	}
	k.mu.Unlock()
	for _, m := range narrow {
		c.conn.Send(0, m)
	}
	for reason, ids := range orders {
		k.order(c, ids, reason)
	}
}

// wait gives the receipts once all sides that could be told have acked, or after limit.
func (k *KDC) wait(ctx context.Context, rs []*revocation, limit time.Duration) []Receipt {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for _, r := range rs {
		select {
		case <-r.settled:
			continue
		case <-timeout.C:
		case <-ctx.Done():
		case <-k.stopped:
		}
		break
	}
	receipts := []Receipt{}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range rs {
		receipts = append(receipts, r.receipts...)
	}
	slices.SortFunc(receipts, func(a, b Receipt) int {
		return cmp.Or(a.Session.Compare(b.Session), strings.Compare(a.Peer, b.Peer))
	})
	return receipts
}
