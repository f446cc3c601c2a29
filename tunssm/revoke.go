package tunssm

import (
	"time"

	"ssmnet/packet/control"
)

const (
	revokedFor = 60 * time.Second // a revoked id is remembered, so that its late grant is refused
	maxRevoked = 65536
)

// onRevoke destroys the named sessions, remembers them, and gives the receipt.
func (a *acquirer) onRevoke(conn *control.Conn, id uint64, m *control.Revoke) {
	a.raise(m.AsOf)
	for _, sid := range m.Sessions {
		a.remember(sid)
		if s := a.sessionByID(sid); s != nil {
			a.destroy(s, m.Reason.String())
		}
	}
	a.reply(conn, id, &control.RevokeAck{Sessions: m.Sessions})
}

// remember keeps a revoked id, so that its late grant is refused.
func (a *acquirer) remember(id control.SessionID) {
	if len(a.revoked) < maxRevoked && !a.revoked[id] {
		a.revoked[id] = true
		a.timers.after(revokedFor, func() { delete(a.revoked, id) })
	}
}

func (a *acquirer) sessionByID(id control.SessionID) *session {
	for _, p := range a.peers {
		for _, s := range p.sessions {
			if s.id == id {
				return s
			}
		}
	}
	return nil
}
