package kdc

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
)

var errStoreEnded = errors.New("the store has ended; no decision can be made without it")

// follow keeps the snapshot up to the store, and decides again when a grant ends by time, until ctx ends.
func (k *KDC) follow(ctx context.Context) error {
	watch := k.store.Watch(ctx, k.directory.revision)
	policy := k.snapshot.Load().compiled
	until := policy.NextUntil(k.now())
	for {
		clock := time.NewTimer(k.nap(until))
		select {
		case b, ok := <-watch:
			clock.Stop()
			if !ok {
				return errors.Join(ctx.Err(), errStoreEnded)
			}
			if err := k.catchUp(ctx, b, watch); err != nil {
				return err
			}
		case <-clock.C:
		}
		s := k.snapshot.Load()
		next := s.compiled.NextUntil(k.now())
		if s.compiled == policy && !next.Equal(until) { // the wall clock has passed one, or has been set back before one
			k.publish(s, true)
		}
		policy, until = s.compiled, next
	}
}

// nap is how long to sleep until a moment of the wall clock: never more than a minute, for that clock may be set.
func (k *KDC) nap(until time.Time) time.Duration {
	if until.IsZero() {
		return time.Minute
	}
	return max(0, min(time.Minute, until.Sub(k.now())))
}

// catchUp takes a batch and all that are ready behind it, and publishes what they come to.
func (k *KDC) catchUp(ctx context.Context, b store.Batch, watch <-chan store.Batch) error {
	if err := k.directory.apply(ctx, b); err != nil {
		return err
	}
	if k.directory.stale {
		k.lull(ctx)
	}
	for more := true; more; {
		select {
		case b, more = <-watch:
			if more {
				if err := k.directory.apply(ctx, b); err != nil {
					return err
				}
			}
		default:
			more = false
		}
	}
	before := k.snapshot.Load()
	s, err := k.directory.compile()
	if err != nil {
		return err
	}
	k.publish(s, s.compiled != before.compiled || s.asOf != before.asOf)
	return nil
}

// maxLull bounds how long a change waits for the exchanges that the one before made begin again.
const maxLull = 300 * time.Millisecond

// lull waits until the exchanges that a change made begin again have come to an end: if one change followed another
// faster than responders answer, none ever would.
func (k *KDC) lull(ctx context.Context) {
	limit, look := time.NewTimer(maxLull), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer look.Stop()
	for {
		k.mu.Lock()
		n := k.reissued
		k.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-look.C:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// publish makes s the snapshot that decisions are made under, and decides again about everything that the one before
// permitted. changed says that policy may answer differently than before.
func (k *KDC) publish(s *snapshot, changed bool) {
	k.gate.Lock()
	k.snapshot.Store(s)
	if changed {
		k.reviewExchanges(s)
	}
	k.turnOutGone(s)
	k.reviewSessions(s, changed)
	k.mu.Lock()
	ready := k.caughtUp(s)
	k.mu.Unlock()
	for _, x := range ready {
		k.begin(s, x)
	}
	k.gate.Unlock()
	k.update(changed)

	k.mu.Lock()
	defer k.mu.Unlock()
	k.swept.Store(uint64(s.revision))
	close(k.published)
	k.published = make(chan struct{})
}

// turnOutGone revokes the sessions of peers that were suspended or removed, and closes their connections and, after the
// answers that are due, those whose key has died: the run that has them makes another under the new key, and if it is
// not that run, admit turns them out. KDC.gate is held for writing.
func (k *KDC) turnOutGone(s *snapshot) {
	var doomed []*session
	var barred, dead, retired []*connection
	k.mu.Lock()
	for name, p := range k.peers {
		if now := s.peers[name]; now != nil && !now.record.Suspended && now.record.UID == p.uid {
			for _, c := range []*connection{p.conn, p.previous} {
				if c != nil && !s.holds(name, c.uid, c.keyID) {
					retired = append(retired, c)
				}
			}
			continue
		}
		doomed = slices.AppendSeq(doomed, maps.Values(p.sessions))
		if p.conn != nil {
			barred, dead = append(barred, p.conn), append(dead, p.previous, p.barred)
			p.conn, p.previous, p.barred = nil, nil, p.conn
		}
	}
	k.mu.Unlock()
	k.revoke(doomed, control.Suspended)
	for _, c := range dead {
		c.hangUp()
	}
	for _, c := range retired {
		k.retire(c)
	}
	for _, c := range barred {
		k.bar(c)
	}
	k.forgetRemoved(s)
}

// forgetRemoved drops what is known of peers that exist no more and have no connection left to ack on.
func (k *KDC) forgetRemoved(s *snapshot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, p := range k.peers {
		if s.peers[name] == nil && p.barred == nil {
			p.excuse()
			delete(k.peers, name)
		}
	}
}

// bar ends what a connection could do but ack, and closes it after its acks, or when they are not to be expected any more.
func (k *KDC) bar(c *connection) {
	c.barred.Store(true)
	k.abandon(c)
	k.mu.Lock()
	owes := len(k.live(c.name).owed)
	k.mu.Unlock()
	if owes == 0 {
		c.turnOut(control.Suspended)
		return
	}
	k.after(ackWait, func() { c.turnOut(control.Suspended) })
}

// reviewExchanges begins the exchanges in flight again, under the new snapshot. KDC.gate is held for writing.
func (k *KDC) reviewExchanges(s *snapshot) {
	k.mu.Lock()
	list := slices.Collect(maps.Values(k.pending))
	for _, x := range list {
		k.take(x)
	}
	k.mu.Unlock()
	for _, x := range list {
		k.again(s, x)
	}
}

// update tells the connected peers what changed for them. routes says that theirs may have. Those whose subnets changed are
// told first: an offer comes to them after that, so a gateway forwards before it has a session for what is new.
func (k *KDC) update(routes bool) {
	k.telling.Lock()
	defer k.telling.Unlock()
	for _, c := range k.gatewaysFirst(k.everyone()) {
		k.tell(c, routes)
	}
}

// gatewaysFirst puts those that have other subnets than they were told before the rest, in place.
func (k *KDC) gatewaysFirst(list []*connection) []*connection {
	s := k.snapshot.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	next := 0
	for i, c := range list {
		if p := s.peers[c.name]; p != nil && !slices.Equal(p.record.Subnets, c.config.Subnets) {
			list[next], list[i] = list[i], list[next]
			next++
		}
	}
	return list
}

// everyone lists the connections of the peers that are online.
func (k *KDC) everyone() (list []*connection) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.peers {
		if p.conn != nil {
			list = append(list, p.conn)
		}
	}
	return list
}

func (k *KDC) tell(c *connection, routes bool) {
	k.gate.RLock()
	defer k.gate.RUnlock()
	s := k.snapshot.Load()
	p := s.peers[c.name]
	if p == nil {
		return
	}
	k.sendNext(s, c)
	k.mu.Lock()
	before := c.config
	k.mu.Unlock()
	now := k.configure(s, p, before.Routes)
	if routes {
		now.Routes = k.routes(s, p)
	}
	if sameConfig(before, now) {
		return
	}
	k.mu.Lock()
	c.config = now
	k.mu.Unlock()
	c.conn.Send(0, &control.Update{Config: now})
}

// configure is what a peer is told about itself and the network.
func (k *KDC) configure(s *snapshot, p *peer, routes []netip.Prefix) control.Config {
	config := k.Config()
	return control.Config{
		Name: p.name, Addresses: p.record.Addresses, Subnets: p.record.Subnets, Overlays: config.Overlays,
		Routes: routes, KDCs: config.Addresses, AsOf: s.asOf,
	}
}

// routes are the subnets of others that policy lets a peer use, as many as one message takes.
func (k *KDC) routes(s *snapshot, p *peer) []netip.Prefix {
	routes := s.compiled.Routes(p.name, k.now())
	return routes[:min(len(routes), control.MaxList)]
}

func sameConfig(a, b control.Config) bool {
	return a.AsOf == b.AsOf && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Subnets, b.Subnets) &&
		slices.Equal(a.Overlays, b.Overlays) && slices.Equal(a.Routes, b.Routes) && slices.Equal(a.KDCs, b.KDCs)
}
