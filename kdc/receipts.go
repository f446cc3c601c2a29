package kdc

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"ssmnet/packet/control"
)

// A side of a session that is told to narrow or to destroy it owes an ack: until it acks, or shows another boot, across its
// connections. What it still owes when it comes back it is told again. Of every ack that is owed there is a receipt, for
// the operator.

const (
	maxOwed     = 16384            // acks that one peer owes
	receiptWait = time.Second      // for acks, in operations that are not told how long
	ackWait     = 30 * time.Second // for the acks of a peer that is let in no more; a path may come back meanwhile
)

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

// receipts are those of one act: of an operator who revokes, or of a snapshot that is published. They are under KDC.mu.
type receipts struct {
	list     []Receipt
	missing  int           // of them, that a connected side still owes
	complete bool          // none is entered any more
	settled  chan struct{} // closed when they are complete and none is missing
}

func newReceipts() *receipts { return &receipts{settled: make(chan struct{})} }

func (r *receipts) settle() {
	if r.complete && r.missing == 0 {
		close(r.settled)
	}
}

// complete lets wait end once the acks are in.
func (k *KDC) complete(r *receipts) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r.complete = true
	r.settle()
}

// wait gives the receipts, which are complete, once all sides that could be told have acked, or after limit.
func (k *KDC) wait(ctx context.Context, r *receipts, limit time.Duration) []Receipt {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-r.settled:
	case <-timeout.C:
	case <-ctx.Done():
	case <-k.stopped:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.Clone(r.list)
	slices.SortFunc(list, func(a, b Receipt) int {
		return cmp.Or(a.Session.Compare(b.Session), strings.Compare(a.Peer, b.Peer))
	})
	return list
}

// debt is an ack that a side owes.
type debt struct {
	session control.SessionID
	reason  control.Reason  // of a revocation
	narrow  *control.Narrow // what is to be acked; nil: a revocation
	boot    control.Boot    // the run that holds the session
	in      *receipts
	at      int  // index of its receipt
	asked   bool // counted in missing: the side was connected
}

// owe enters the receipt of one side and gives the connection to tell it on, nil where there is none now. It takes the
// place of an earlier debt about the same session, whose ack it makes needless. k.mu is held.
func (k *KDC) owe(r *receipts, end side, d debt) *connection {
	if !end.hold.has() {
		return nil
	}
	d.boot, d.in, d.at = end.boot, r, len(r.list)
	r.list = append(r.list, Receipt{
		Session: d.session, Peer: end.peer, State: ReceiptPending, At: k.now().UTC(), Narrowed: d.narrow != nil,
	})
	p := k.livePeer(end.peer)
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

// isAck says whether a message pays a debt.
func isAck(m control.Message) bool {
	switch m.(type) {
	case *control.RevokeAck, *control.NarrowAck:
		return true
	}
	return false
}

// acknowledge makes out the receipt that a debt was for. A barred peer's last was all that it was let in for. k.mu is held.
func (k *KDC) acknowledge(p *livePeer, d *debt) {
	r := &d.in.list[d.at]
	r.State, r.At = ReceiptAcked, k.now().UTC()
	k.forgive(p, d)
	e := event{Event: "revoke.acked", Peer: r.Peer, Session: r.Session}
	if d.narrow != nil {
		e.Event, e.AsOf = "narrow.acked", d.narrow.AsOf
	}
	k.audit.add(e)
	if len(p.owed) == 0 {
		p.barred.turnOut(control.Suspended)
	}
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
	d.in.missing--
	d.in.settle()
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
	p := k.livePeer(c.name)
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
