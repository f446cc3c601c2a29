package tunssm

// The connection to one KDC. A dialer, on a goroutine of its own, keeps it up: dial, connect, authenticate. What is read
// from it goes to the acquirer, which takes it on in links.go and messages.go.

import (
	"context"
	"errors"
	"net"
	"net/netip"
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

// reconnect makes another connection, before the present one ends.
func (l *link) reconnect() {
	select {
	case l.renew <- struct{}{}:
	default:
	}
}

func (a *acquirer) jitter(d time.Duration) time.Duration { return d*3/4 + a.random(d/2) }

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
