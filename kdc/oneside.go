package kdc

import (
	"time"

	"ssmnet/packet/control"
)

// A session that one side alone holds carries nothing: what the other sends finds no SPI. It comes about where a
// revocation reached one side only and the KDC that was owed the other's ack is no more. Both sides' reports show it.

// matchGrace is how long the report of one side may precede the other's.
const matchGrace = 3 * time.Second

// matchLater looks at the sessions of a connection's peer once the reports of their other sides must have come in.
// k.mu is held.
func (k *KDC) matchLater(c *connection) {
	if c.matching {
		return
	}
	c.matching = true
	k.after(matchGrace, func() { k.match(c) })
}

// match revokes the sessions of a connection's peer that one side says it has and the other, which has reported all of
// its own, does not.
func (k *KDC) match(c *connection) {
	k.gate.RLock()
	defer k.gate.RUnlock()
	var doomed []*session
	k.mu.Lock()
	c.matching = false
	if p := k.peers[c.name]; p != nil && p.conn == c {
		for _, s := range p.sessions {
			if time.Since(s.heard) < matchGrace {
				k.matchLater(c)
				continue
			}
			for i := range s.sides {
				if end := &s.sides[i]; !end.told && s.sides[1-i].told && k.reportedAll(end) {
					end.held = false
					doomed = append(doomed, s)
				}
			}
		}
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Changed)
}

// reportedAll says that the run of a side is connected and has had the time to report whatever it holds. k.mu is held.
func (k *KDC) reportedAll(end *side) bool {
	c := k.connected(end.peer)
	return c != nil && c.boot == end.boot && c.roll == nil && !c.endless && time.Since(c.began) >= matchGrace
}
