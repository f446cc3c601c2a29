package kdc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// Serve accepts SSMs on the listeners until ctx ends, or the store does. It owns the listeners, the connections and
// every goroutine, and returns when all have ended; a KDC serves once.
func (k *KDC) Serve(ctx context.Context, listeners ...net.Listener) error {
	if !k.serving.CompareAndSwap(false, true) {
		return errServed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	auditStop, auditDone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(auditDone)
		k.audit.run(auditStop)
	}()
	k.audit.add(event{Event: "serve", AsOf: k.snapshot.Load().asOf})
	k.running.Go(func() { cancel(k.follow(ctx)) })
	k.running.Go(func() { k.keepContact(ctx) })
	k.mu.Lock()
	k.listening = nil
	for _, l := range listeners {
		k.listening = append(k.listening, l.Addr().String())
	}
	k.mu.Unlock()
	for _, l := range listeners {
		k.running.Go(func() { k.accept(ctx, l, cancel) })
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	close(k.stopped)
	k.closeAll()
	k.running.Wait()
	k.tellRepeats()
	k.audit.add(event{Event: "stop", AsOf: k.snapshot.Load().asOf})
	close(auditStop)
	<-auditDone
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// accept serves one listener. A passing failure, such as too many open files, is waited out.
func (k *KDC) accept(ctx context.Context, l net.Listener, fail context.CancelCauseFunc) {
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return
		case errors.Is(err, net.ErrClosed):
			fail(err)
			return
		case err != nil:
			k.log.Warn("accept failed", "address", l.Addr(), "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		from := site(source(nc.RemoteAddr()))
		k.turnAway(k.strangers.enter(nc, from))
		if !k.track(nc) {
			nc.Close()
		}
		k.running.Go(func() {
			through := answering{nc, sync.OnceFunc(func() { k.vouch(nc, from) })}
			k.receive(ctx, through, sync.OnceFunc(func() {
				k.strangers.leave(nc, from)
				k.vouched.leave(nc, netip.Prefix{})
			}))
			k.untrack(nc) // not deferred: see attend
		})
	}
}

// receive lets a stranger show a key, and serves it as the peer whose key it is.
func (k *KDC) receive(ctx context.Context, nc net.Conn, known func()) {
	defer known()
	var who keyOwner
	var key secret.Key
	conn, _, first, err := control.Accept(nc, func(id control.KeyID) (secret.Key, bool) {
		var ok bool
		who, key, ok = k.keyOf(id)
		return key, ok
	})
	key.Destroy()
	if who.peer != nil { // else no key of ours was used
		k.eraser.Dropped()       // what the handshake made of the peer's key
		defer k.eraser.Dropped() // the connection's own keys
	}
	if err != nil {
		k.counts.failed.Add(1)
		k.log.Debug("no handshake", "source", nc.RemoteAddr(), "error", err)
		return
	}
	defer conn.Close()
	known()
	switch {
	case k.isSuspended(who) && who.role != roleCurrent: // that may have acks to bring
		refuse(conn, first, control.Suspended)
		return
	case who.role == roleToken:
		k.enrol(ctx, conn, who, first)
		return
	case who.role == roleNext:
		if err := k.promote(ctx, who); err != nil {
			k.warn("key not put in use", "peer", who.peer.name, "key_id", who.key.ID, "error", err)
			refuse(conn, first, control.Unavailable)
			return
		}
	}
	k.attend(conn, who, first)
}

// refuse answers the first message of a connection with a no, and ends it.
func refuse(conn *control.Conn, first control.Envelope, reason control.Reason) {
	conn.Send(first.ID, &control.Refusal{Refused: first.Message.Type(), Reason: reason})
	conn.Shutdown(farewell)
}

// keyOf finds a key for a handshake; the caller destroys it. A token is known until it expires.
func (k *KDC) keyOf(id control.KeyID) (keyOwner, secret.Key, bool) {
	who, ok := k.snapshot.Load().keys[id]
	if !ok || who.role == roleToken && !k.now().Before(who.key.Expires) {
		return keyOwner{}, secret.Key{}, false
	}
	key, err := k.ring.open(who.peer.name, id, who.key.Sealed)
	if err != nil {
		k.log.Error("a key cannot be used", "peer", who.peer.name, "key_id", id, "error", err)
		return keyOwner{}, secret.Key{}, false
	}
	return who, key, true
}

// isSuspended says that the peer is known and gets nothing.
func (k *KDC) isSuspended(who keyOwner) bool {
	p := k.snapshot.Load().peers[who.peer.name]
	return p != nil && p.record.Suspended
}

// track makes a connection one that closeAll closes; false once it has been called.
func (k *KDC) track(nc net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.transports == nil {
		return false
	}
	k.transports[nc] = struct{}{}
	return true
}

func (k *KDC) untrack(nc net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.transports, nc)
}

// closeAll ends every connection and timer.
func (k *KDC) closeAll() {
	k.mu.Lock()
	all := k.transports
	k.transports = nil
	k.mu.Unlock()
	for nc := range all {
		nc.Close()
	}
	k.timers.stopAll()
}

// isServing says why an operation cannot be done, if so.
func (k *KDC) isServing() error {
	select {
	case <-k.stopped:
		return ErrNotServing
	default:
	}
	if !k.serving.Load() {
		return ErrNotServing
	}
	return nil
}
