package kdc

import (
	"maps"
	"slices"

	"ssmnet/packet/control"
)

// Peers that were suspended or removed are barred: they keep their connection, or get one, for the acks they owe, and for
// nothing else.

// turnOutGone revokes the sessions of peers that were suspended or removed, and closes their connections and, after the
// answers that are due, those whose key has died: the run that has them makes another under the new key, and if it is
// not that run, admit turns them out. KDC.gate is held for writing.
func (k *KDC) turnOutGone(s *snapshot, r *receipts) {
	var doomed []*session
	var barred, dead, retired []*connection
	k.mu.Lock()
	for name, p := range k.live {
		if now := s.peers[name]; now != nil && !now.record.Suspended && now.record.UID == p.uid {
			for _, c := range []*connection{p.conn, p.previous} {
				if c != nil && !s.holds(name, c.uid, c.keyID) {
					retired = append(retired, c)
				}
			}
			continue
		}
		doomed = slices.AppendSeq(doomed, maps.Values(p.sessions))
		if p.conn != nil {
			barred, dead = append(barred, p.conn), append(dead, p.previous, p.barred)
			p.conn, p.previous, p.barred = nil, nil, p.conn
		}
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Suspended, r)
	for _, c := range dead {
		c.hangUp()
	}
	for _, c := range retired {
		k.retire(c)
	}
	for _, c := range barred {
		k.bar(c)
	}
	k.forgetRemoved(s)
}

// forgetRemoved drops what is known of peers that exist no more and have no connection left to ack on.
func (k *KDC) forgetRemoved(s *snapshot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, p := range k.live {
		if s.peers[name] == nil && p.barred == nil {
			p.excuse()
			delete(k.live, name)
		}
	}
}

// bar ends what a connection could do but ack, and closes it after its acks, or when they are not to be expected any more.
func (k *KDC) bar(c *connection) {
	c.barred.Store(true)
	k.abandon(c)
	k.mu.Lock()
	owes := len(k.livePeer(c.name).owed)
	k.mu.Unlock()
	if owes == 0 {
		c.turnOut(control.Suspended)
		return
	}
	k.after(ackWait, func() { c.turnOut(control.Suspended) })
}

// readmit takes a suspended peer's connection where the run owes acks, for those alone: the revocations did not reach it
// on the one before. KDC.gate is held.
func (k *KDC) readmit(c *connection) control.Reason {
	k.mu.Lock()
	p := k.livePeerAs(c.name, c.uid)
	if !p.owes(c.boot) {
		k.mu.Unlock()
		return control.Suspended
	}
	old := p.barred
	p.barred = c
	k.mu.Unlock()
	old.hangUp()
	k.bar(c)
	k.remind(c)
	return 0
}
