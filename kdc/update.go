package kdc

import (
	"net/netip"
	"slices"

	"ssmnet/packet/control"
)

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
	for _, p := range k.live {
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
