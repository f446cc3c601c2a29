package tunssm

// The KDCs, as the acquirer knows them: which there are (follow, adopt), what becomes of each connection (greet, onWelcome,
// disconnected), and which is to be asked (healthy).

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ssmnet/packet/control"
)

// links are the KDCs in the order in which they are asked.
type links struct {
	list  []*link
	told  []string                        // addresses that a KDC has named last; followed once one of them has worked
	live  map[*control.Conn]control.KeyID // every connection that has a reader, and the key it runs under
	tasks sync.WaitGroup                  // dialers and readers
	stop  context.CancelFunc
	ctx   context.Context

	contact time.Time // with a KDC that is not detached
}

// follow turns to the addresses that a KDC names. One wrong line at a KDC must not cut an SSM off from all of them, so
// the links that worked until now stay, behind the new ones, until one of the new has been welcomed.
func (a *acquirer) follow(addresses []string) {
	if len(addresses) == 0 || slices.Equal(addresses, a.links.told) {
		return
	}
	a.links.told = addresses
	a.dialAll(a.links.ctx, append(slices.Clone(addresses), a.kdcs...))
	for _, l := range a.links.list {
		l.callBack() // the link that it stands aside for may be named no more
	}
	a.adopt()
}

// adopt lets go of the links to addresses that are no longer named, and keeps the new list, if one of those works.
func (a *acquirer) adopt() {
	told := a.links.told
	works := func(l *link) bool { return l.conn != nil && slices.Contains(told, l.address) }
	if !slices.ContainsFunc(a.links.list, works) {
		return
	}
	a.dialAll(a.links.ctx, told)
	if slices.Equal(told, a.kdcs) {
		return
	}
	a.kdcs = told
	if err := a.save(a.identity()); err != nil {
		a.log.Warn("cannot keep the new KDC addresses", "error", err)
	}
}

// dialAll makes the links be those to the addresses, keeping those that exist. An address named twice is dialed once.
func (a *acquirer) dialAll(ctx context.Context, addresses []string) {
	if a.links.ctx == nil {
		// Dialers end in goodbye, after the last report, not with ctx.
		a.links.ctx, a.links.stop = context.WithCancel(context.WithoutCancel(ctx))
		a.links.live = map[*control.Conn]control.KeyID{}
	}
	var list []*link
	for _, address := range addresses {
		is := func(l *link) bool { return l.address == address }
		if slices.ContainsFunc(list, is) {
			continue
		}
		if at := slices.IndexFunc(a.links.list, is); at >= 0 {
			list = append(list, a.links.list[at])
			continue
		}
		l := &link{
			address: address, since: time.Now(), fault: errors.New("not yet connected"), renew: make(chan struct{}, 1),
		}
		var dialCtx context.Context
		dialCtx, l.stop = context.WithCancel(a.links.ctx)
		a.links.tasks.Go(func() { a.dial(dialCtx, l) })
		list = append(list, l)
	}
	for _, l := range a.links.list {
		if !slices.Contains(list, l) {
			l.stop()
		}
	}
	a.links.list = list
}

// greet says Hello on a new connection and reports every live session.
func (a *acquirer) greet(l *link, conn *control.Conn, key control.KeyID) {
	l.greeting = conn
	a.links.live[conn] = key
	a.eraser.Dropped() // of the handshake
	if addr, ok := remote(conn); ok {
		l.at = addr
	}
	reports := a.report.all(a)
	sessions := 0
	for _, m := range reports {
		sessions += len(m.Opened)
	}
	reach := a.reach()
	reach.Addresses = a.told.Addresses // what has changed since, rehome tells every KDC, were it only for a moment
	hello := &control.Hello{
		Boot: a.boot, Reach: reach, AES: hasAES, Sessions: uint32(sessions), Software: a.software,
	}
	if conn.Send(0, hello) != nil {
		return // its reader notices
	}
	for _, m := range reports {
		if conn.Send(0, m) != nil {
			return
		}
	}
	a.pingLater(l, conn)
}

// pingLater asks for a sign of life at intervals, for as long as the connection lasts.
func (a *acquirer) pingLater(l *link, conn *control.Conn) {
	a.timers.after(control.PingInterval, func() {
		if conn.Err() == nil && a.pingKDC(l, conn) {
			a.pingLater(l, conn)
		}
	})
}

// onWelcome makes conn the one that l uses; the one before it, renewed, may finish what is on the way.
func (a *acquirer) onWelcome(l *link, conn *control.Conn, m *control.Welcome) {
	if conn != l.greeting {
		return
	}
	if l.conn != nil && l.conn != conn {
		a.retireConn(l)
	}
	l.conn, l.greeting, l.fault, l.since, l.detached = conn, nil, nil, time.Now(), m.Detached
	l.pinged, l.unsteady = time.Time{}, 0
	a.log.Info("welcomed by a KDC", "kdc", l.address)
	a.preferTo(l, m.KDC)
	if m.Detached {
		a.log.Warn("a KDC is detached from its store", "kdc", l.address)
	}
	a.adopt()
}

// unreachable notes why there is no connection.
func (a *acquirer) unreachable(l *link, err error) {
	if errors.Is(err, control.ErrHandshake) {
		a.eraser.Dropped()
	}
	if l.conn == nil {
		if l.fault == nil || l.fault.Error() != err.Error() {
			a.log.Warn("no connection to a KDC", "kdc", l.address, "error", err)
		}
		l.fault = err
	}
}

// disconnected forgets a connection; requests under way on it go to the next KDC.
func (a *acquirer) disconnected(l *link, conn *control.Conn, err error) {
	key := a.links.live[conn]
	delete(a.links.live, conn)
	a.eraser.Dropped()
	if errors.Is(l.fault, errRefusedHello) || errors.Is(l.fault, errDisplaced) {
		err = l.fault // says more than that the KDC then hung up
	}
	if l.greeting == conn {
		l.greeting = nil
		l.currentFirst.Store(key == a.keys.next.ID)
		if l.conn == nil {
			l.fault = err
		}
	}
	if l.conn != conn {
		return
	}
	l.conn, l.fault, l.since = nil, err, time.Now()
	a.log.Warn("lost the connection to a KDC", "kdc", l.address, "error", err)
	for _, other := range a.links.list {
		if other.run == l.run {
			other.callBack()
		}
	}
	for _, t := range a.pending {
		if t.link == l {
			a.another(t, control.NoKDC)
		}
	}
	for _, q := range a.lookups {
		if q.link == l {
			a.lookElsewhere(q)
		}
	}
}

// healthy is the first KDC to ask that has not been tried: one that owes an answer to a ping only where there is no other.
func (a *acquirer) healthy(tried map[*link]bool) (found *link) {
	for _, l := range a.links.list {
		if l.conn == nil || l.detached || tried[l] {
			continue
		}
		if !l.silent() {
			return l
		}
		if found == nil {
			found = l
		}
	}
	return found
}

// shutdown lets what was sent leave, then ends every connection and dialer.
func (l *links) shutdown(limit time.Duration) {
	var all sync.WaitGroup
	for conn := range l.live {
		all.Go(func() { conn.Shutdown(limit) })
	}
	all.Wait()
	l.stop()
}
