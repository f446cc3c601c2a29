package tunssm

import (
	"errors"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// onKeyOffer is step 3 at the responder: install, then accept, so that the requester's first frame finds its SPI.
func (a *acquirer) onKeyOffer(l *link, conn *control.Conn, id uint64, o *control.KeyOffer) {
	name, na, boot := o.A.Name, o.Na, o.A.Boot
	defer a.eraser.Dropped() // of what the keys were made of
	keys, accept, err := control.Respond(a.self(conn), o, a.reserveSPI(), a.orders.next(name, boot))
	var s *session
	if err == nil {
		s, err = a.step3Install(keys, l)
	}
	if err != nil {
		reason := control.Refused
		if errors.Is(err, control.ErrStale) {
			reason = control.Behind
		}
		if a.sessionLines.allow() {
			a.log.Warn("refused an offer", "step", 3, "peer", name, "kdc", l.address, "error", err)
		}
		a.reply(conn, id, &control.KeyDenial{Na: na, Reason: reason})
		return
	}
	a.reply(conn, id, accept)
	a.logSession("installed a session", "step", 3, "session", s.id, "peer", name, "role", "responder", "suite", s.suite)
	// The requester may ask because it has lost us: on the session that goes on, it learns where we are.
	if now := s.peer.sending.Load(); now != nil && now.state == confirmed && now.boot == s.boot {
		a.sendProbe(now, packet.ProbeMessage{Kind: packet.Keepalive}, now.target())
	}
	// An empty datagram to each candidate lets the requester's first frame in through a NAT on our side.
	for _, c := range *s.candidates.Load() {
		if a.sendOne(nil, c) != nil {
			a.drops.add(dropSend)
		}
	}
}
