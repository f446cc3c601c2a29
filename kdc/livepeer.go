package kdc

import (
	"slices"

	"golang.org/x/time/rate"

	"ssmnet/packet/control"
)

// maxDisplaced is how many displaced boots are remembered of one peer, the newest.
const maxDisplaced = 32

// livePeer is what the KDC knows of a peer while it runs. All of it is under KDC.mu.
type livePeer struct {
	uid       control.KeyID
	conn      *connection    // nil: offline
	previous  *connection    // the one that conn replaced, for as long as answers may come on it
	barred    *connection    // of a suspended or removed peer, until it has acked its revocations
	boot      control.Boot   // of the newest Hello
	displaced []control.Boot // earlier ones
	sessions  map[control.SessionID]*session
	owed      map[control.SessionID]*debt
	budget    int // sessions that count against it
	lastSeen  int64
	visits    *rate.Limiter // connections
}

// livePeer gives the entry of a peer, which it makes where there is none. KDC.gate and k.mu are held.
func (k *KDC) livePeer(name string) *livePeer {
	p := k.live[name]
	if p == nil {
		p = &livePeer{
			sessions: map[control.SessionID]*session{}, owed: map[control.SessionID]*debt{},
			visits: rate.NewLimiter(visitRate, visitBurst),
		}
		if known := k.snapshot.Load().peers[name]; known != nil {
			p.uid = known.record.UID
		}
		k.live[name] = p
	}
	return p
}

// connected gives the connection of a peer, nil where it is offline. k.mu is held.
func (k *KDC) connected(name string) *connection {
	if p := k.live[name]; p != nil {
		return p.conn
	}
	return nil
}

// displace makes boot the peer's present one. It reports false for one that was displaced before: two SSMs run under
// one identity. k.mu is held.
func (p *livePeer) displace(boot control.Boot) (older control.Boot, ok bool) {
	if slices.Contains(p.displaced, boot) {
		return older, false
	}
	if older = p.boot; older == boot {
		return control.Boot{}, true
	}
	p.boot = boot
	if older != (control.Boot{}) {
		p.displaced = append(p.displaced, older)
		if len(p.displaced) > maxDisplaced {
			p.displaced = slices.Delete(p.displaced, 0, 1)
		}
	}
	return older, true
}

// livePeerAs is livePeer for one incarnation of the peer; what is left of an earlier one under the same name is forgotten.
// k.mu is held.
func (k *KDC) livePeerAs(name string, uid control.KeyID) *livePeer {
	if p := k.live[name]; p != nil && p.uid != uid {
		delete(k.live, name)
	}
	return k.livePeer(name)
}
