package tunssm

import (
	"errors"
	"fmt"
	"slices"
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

// message takes one message of a KDC.
func (a *acquirer) message(l *link, conn *control.Conn, e control.Envelope) {
	switch m := e.Message.(type) {
	case *control.Welcome:
		a.promote(l, conn)
		a.welcomed(l, conn, m)
		a.configure(m.Config)
	case *control.Update:
		a.configure(m.Config)
	case *control.KeyGrant:
		a.granted(l, e.ID, m)
	case *control.KeyDenial:
		a.denied(l, e.ID, m)
	case *control.KeyOffer:
		a.raise(m.Terms.AsOf)
		a.offered(l, conn, e.ID, m)
	case *control.Revoke:
		a.revoke(conn, e.ID, m)
		a.nudge(l) // nothing answers the receipt: were it held up, nobody would know
	case *control.Narrow:
		a.narrow(conn, e.ID, m)
		a.nudge(l)
	case *control.RotateKey:
		a.rotate(l, conn, m)
	case *control.Endpoint:
		a.moved(m)
	case *control.Ping:
		a.reply(conn, e.ID, &control.Pong{AsOf: a.asOf})
		a.steady(l) // a KDC asks where it has waited
	case *control.Pong:
		l.detached = m.Detached
		a.ponged(l)
		a.raise(m.AsOf)
	case *control.Refusal:
		a.refusedBy(l, conn, m)
	default:
		a.reply(conn, e.ID, &control.Refusal{Refused: e.Message.Type(), Reason: control.Unsupported})
	}
	if l.conn == conn && !l.detached { // one that has not welcomed us vouches for nothing
		a.contact = time.Now()
	}
}

// reply sends a message, an answer on the connection that asked, which need not be the one in use. One that has just
// ended is noticed by its reader.
func (a *acquirer) reply(conn *control.Conn, id uint64, m control.Message) {
	if err := conn.Send(id, m); err != nil {
		a.log.Debug("message not sent", "kdc", conn.RemoteAddr(), "error", err)
	}
}

// refusedBy notes that a KDC will not have us, or did not understand.
func (a *acquirer) refusedBy(l *link, conn *control.Conn, m *control.Refusal) {
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

// raise keeps the highest as_of seen.
func (a *acquirer) raise(asOf control.AsOf) {
	if a.asOf.Before(asOf) {
		a.asOf = asOf
		a.publish()
	}
}

// configure takes what a KDC says of the network, unless another has said something newer.
func (a *acquirer) configure(c control.Config) {
	if c.AsOf.Before(a.config.AsOf) {
		return
	}
	old := a.config
	a.config = c
	clear(a.denials)
	a.raise(c.AsOf)
	if !slices.Equal(old.Addresses, c.Addresses) || !slices.Equal(old.Overlays, c.Overlays) {
		a.fault = a.host.Route.Configure(c.Addresses, c.Overlays)
		if a.fault != nil {
			a.log.Error("cannot set up the interface", "interface", a.host.TUN.Name(), "error", a.fault)
			a.config.Addresses = nil // tried again at the next Update
		} else {
			a.log.Info("interface is up", "interface", a.host.TUN.Name(), "addresses", c.Addresses)
		}
	}
	if !slices.Equal(old.Subnets, c.Subnets) {
		a.forward()
	}
	if slices.Equal(old.Routes, c.Routes) {
		a.rerouted() // the overlays may have changed
	} else {
		a.reroute()
	}
	a.follow(c.KDCs)
}
