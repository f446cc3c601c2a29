package tunssm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ssmnet/packet/control"
)

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second        // from a KDC that hangs up: it has too much to do, or does not know us
	lastRedial   = 500 * time.Millisecond // to one that is not there
	settledAfter = time.Second            // a connection that lasts so long was no mistake
	renewAfter   = time.Hour              // jittered; the new connection is made before the old one ends
	retireOld    = 5 * time.Second
)

// link is one KDC. Its fields belong to the acquirer; its dialer goroutine only makes connections.
type link struct {
	address  string
	conn     *control.Conn // welcomed; nil where there is none
	greeting *control.Conn // has been sent Hello
	at       netip.Addr    // where it was last reached
	detached bool          // this KDC says it is cut off from its store
	fault    error         // why there is no connection
	since    time.Time     // of conn, or of the fault
	pinged   time.Time     // when conn was first, of the pings not answered; zero for none
	nudged   time.Time     // when an answer was overdue last (steady.go)
	unsteady int           // pings to come since an answer was late (likewise)
	due      bool          // one of them is about to go
	run      control.Boot  // of the KDC that has welcomed it last
	stop     context.CancelFunc

	aside        atomic.Bool   // another link leads to the same KDC (twin.go)
	renew        chan struct{} // one slot: another connection is due
	currentFirst atomic.Bool   // this KDC took the next key and did not welcome us: the next dial tries the current one first
}

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

// dial keeps l connected: on its own goroutine, it reads nothing of the acquirer but what never changes, and the keyring.
func (a *acquirer) dial(ctx context.Context, l *link) {
	backoff := firstBackoff
	for ctx.Err() == nil {
		if l.aside.Load() {
			a.standAside(ctx, l)
			continue
		}
		select {
		case <-l.renew: // the connection that is made now will do
		default:
		}
		conn, err := a.connect(ctx, l)
		if err != nil {
			a.toAcquirer(func(a *acquirer) { a.unreachable(l, err) })
			wait(ctx, a.jitter(backoff))
			backoff = min(2*backoff, longestBackoff(err))
			continue
		}
		began := time.Now()
		select {
		case <-conn.Done():
		case <-ctx.Done():
		case <-l.renew:
			continue
		case <-time.After(a.jitter(renewAfter)):
			continue
		}
		if time.Since(began) > settledAfter {
			backoff = firstBackoff
		}
		wait(ctx, a.jitter(backoff))
		backoff = min(2*backoff, lastBackoff)
	}
}

// longestBackoff bounds the pauses after a failure to connect. New sessions and revocations wait for a KDC that comes back,
// so it is looked for twice a second: of 10,000 SSMs that is 20,000 segments a second, jittered, which the kernel of its
// host refuses or nobody hears. A KDC that is there hears less of those whose handshakes fail.
func longestBackoff(err error) time.Duration {
	if errors.Is(err, control.ErrHandshake) {
		return lastBackoff
	}
	return lastRedial
}

// connect makes one connection, hands it to the acquirer and reads from it until it ends.
func (a *acquirer) connect(ctx context.Context, l *link) (*control.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, control.HandshakeTimeout)
	defer cancel()
	conn, key, err := a.authenticate(dialCtx, l)
	if err != nil {
		return nil, err
	}
	if !a.toAcquirer(func(a *acquirer) { a.greet(l, conn, key) }) {
		conn.Close()
		return nil, ErrEnded
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	a.links.tasks.Go(func() {
		defer stop()
		a.read(l, conn)
	})
	return conn, nil
}

// authenticate dials and shakes hands under the first key that the KDC knows, which it names.
func (a *acquirer) authenticate(ctx context.Context, l *link) (conn *control.Conn, id control.KeyID, err error) {
	keys := a.keys.trial(l.currentFirst.Swap(false))
	for _, key := range keys {
		if conn == nil && (err == nil || errors.Is(err, control.ErrHandshake)) {
			var nc net.Conn
			if nc, err = a.host.Dial(ctx, l.address); err == nil {
				conn, err = control.Connect(ctx, nc, key.ID, key.Key)
				id = key.ID
			}
		}
		key.Key.Destroy()
	}
	return conn, id, err
}

// read hands each message to the acquirer.
func (a *acquirer) read(l *link, conn *control.Conn) {
	for {
		e, err := conn.Receive()
		if err != nil {
			a.toAcquirer(func(a *acquirer) { a.disconnected(l, conn, err) })
			conn.Close()
			return
		}
		if !a.toAcquirer(func(a *acquirer) { a.onMessage(l, conn, e) }) {
			conn.Close()
			return
		}
	}
}

func (a *acquirer) jitter(d time.Duration) time.Duration { return d*3/4 + a.random(d/2) }

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
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
	hello := &control.Hello{
		Boot: a.boot, Reach: a.reach(), AES: hasAES, Sessions: uint32(sessions), Software: a.software,
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
