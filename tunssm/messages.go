package tunssm

import (
	"errors"
	"fmt"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

var (
	hasAES          = packet.HasAES()
	errRefusedHello = errors.New("the KDC refuses this SSM")
	errDisplaced    = errors.New(
		"another run of this identity has taken over: is the identity copied? restart this SSM to take it back")
)

// onMessage takes one message of a KDC.
func (a *acquirer) onMessage(l *link, conn *control.Conn, e control.Envelope) {
	switch m := e.Message.(type) {
	case *control.Welcome:
		a.promote(l, conn)
		a.onWelcome(l, conn, m)
		a.configure(m.Config)
	case *control.Update:
		a.configure(m.Config)
	case *control.KeyGrant:
		a.onKeyGrant(l, e.ID, m)
	case *control.KeyDenial:
		a.onKeyDenial(l, e.ID, m)
	case *control.LookupReply:
		a.onLookupReply(l, e.ID, m)
	case *control.KeyOffer:
		a.raise(m.Terms.AsOf)
		a.onKeyOffer(l, conn, e.ID, m)
	case *control.Revoke:
		a.onRevoke(conn, e.ID, m)
		a.nudge(l) // nothing answers the receipt: were it held up, nobody would know
	case *control.Narrow:
		a.onNarrow(conn, e.ID, m)
		a.nudge(l)
	case *control.RotateKey:
		a.onRotateKey(l, conn, m)
	case *control.Endpoint:
		a.onEndpoint(m)
	case *control.Ping:
		a.reply(conn, e.ID, &control.Pong{AsOf: a.asOf})
		a.steady(l) // a KDC asks where it has waited
	case *control.Pong:
		l.detached = m.Detached
		a.onPong(l)
		a.raise(m.AsOf)
	case *control.Refusal:
		a.onRefusal(l, conn, m)
	default:
		a.reply(conn, e.ID, &control.Refusal{Refused: e.Message.Type(), Reason: control.Unsupported})
	}
	if l.conn == conn && !l.detached { // one that has not welcomed us vouches for nothing
		a.links.contact = time.Now()
	}
}

// reply sends a message, an answer on the connection that asked, which need not be the one in use. One that has just
// ended is noticed by its reader.
func (a *acquirer) reply(conn *control.Conn, id uint64, m control.Message) {
	if err := conn.Send(id, m); err != nil {
		a.log.Debug("message not sent", "kdc", conn.RemoteAddr(), "error", err)
	}
}

// onRefusal notes that a KDC will not have us, or did not understand.
func (a *acquirer) onRefusal(l *link, conn *control.Conn, m *control.Refusal) {
	before := l.fault
	switch {
	case m.Refused == control.TypeHello && m.Reason == control.Conflict:
		l.fault = errDisplaced
	case m.Refused == control.TypeHello:
		l.fault = fmt.Errorf("%w: %s", errRefusedHello, m.Reason)
	}
	if m.Refused == control.TypeHello && before != nil && before.Error() == l.fault.Error() {
		return // said when it first would not; it is asked again every few seconds
	}
	a.log.Warn("refused by a KDC", "kdc", l.address, "message", m.Refused, "reason", m.Reason)
}
