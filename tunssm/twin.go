package tunssm

import (
	"context"
	"fmt"
	"time"

	"ssmnet/packet/control"
)

// Two addresses may lead to one KDC, as its IPv4 and its IPv6 one do. It keeps one connection of each SSM, so that those of
// two links would end each other for ever. Of the links to one run of a KDC the one that was welcomed last is used; the
// others stand aside until that has lost its connection, or until it would be renewed: their address may lead elsewhere by
// then.

// preferTo notes which run of which KDC has welcomed l, and makes the other links to it stand aside.
func (a *acquirer) preferTo(l *link, run control.Boot) {
	l.run = run
	l.aside.Store(false)
	for _, other := range a.links.list {
		if other == l || other.conn == nil || other.run != run {
			continue
		}
		other.aside.Store(true)
		a.retireConn(other)
		other.fault, other.since = fmt.Errorf("another address of the KDC at %s, which is used", l.address), time.Now()
		a.log.Info("two addresses lead to one KDC", "kdc", l.address, "aside", other.address)
	}
}

// standAside waits, on the goroutine of the dialer, until l may be needed again.
func (a *acquirer) standAside(ctx context.Context, l *link) {
	select {
	case <-l.renew:
	case <-time.After(a.jitter(renewAfter)):
		l.aside.Store(false)
	case <-ctx.Done():
	}
}

// callBack makes l dial again, if it stands aside.
func (l *link) callBack() {
	if l.aside.Swap(false) {
		l.reconnect()
	}
}

// retireConn gives up the connection of l, on which what is on the way may still arrive.
func (a *acquirer) retireConn(l *link) {
	old := l.conn
	a.timers.after(retireOld, func() { old.Close() })
	l.conn = nil
}
