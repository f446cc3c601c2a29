package kdc

import (
	"net"
	"net/netip"
	"slices"

	"ssmnet/packet/control"
)

// source is the underlay address that a connection comes from, zero where its transport has none.
func source(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// candidates are the endpoints that others may try, in this order: the one its operator fixed, the source that the KDC
// sees, its interfaces' addresses.
func candidates(r control.Reach, source netip.Addr, overlays []netip.Prefix) []netip.AddrPort {
	var list []netip.AddrPort
	add := func(c netip.AddrPort) {
		if len(list) < control.MaxCandidates && routable(c, overlays) && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	add(r.Fixed)
	add(netip.AddrPortFrom(source, r.Port))
	for _, a := range r.Addresses {
		add(netip.AddrPortFrom(a, r.Port))
	}
	return list
}

// routable says whether another host could reach c by the underlay.
func routable(c netip.AddrPort, overlays []netip.Prefix) bool {
	a := c.Addr()
	if !a.IsValid() || c.Port() == 0 || !a.IsGlobalUnicast() {
		return false // IsGlobalUnicast: not loopback, link-local, multicast, unspecified or broadcast
	}
	return !slices.ContainsFunc(overlays, func(o netip.Prefix) bool { return o.Contains(a) })
}

// onEndpoint takes an Endpoint: an SSM's own addresses changed.
func (k *KDC) onEndpoint(c *connection, call uint64, m *control.Endpoint) {
	if m.Reach == nil {
		c.conn.Send(call, &control.Refusal{Refused: control.TypeEndpoint, Reason: control.Malformed})
		return
	}
	now := candidates(*m.Reach, c.source, k.Config().Overlays)
	k.mu.Lock()
	same := slices.Equal(now, c.candidates)
	c.candidates = now
	k.mu.Unlock()
	if !same {
		k.relay(c)
	}
}

// relay tells the peers that have sessions with the connection's where it can be reached now.
func (k *KDC) relay(c *connection) {
	told := map[*connection]bool{}
	k.mu.Lock()
	m := &control.Endpoint{Peer: c.name, Candidates: c.candidates}
	for _, s := range k.livePeer(c.name).sessions {
		if to := k.connected(s.other(c.name).peer); to != nil {
			told[to] = true
		}
	}
	k.mu.Unlock()
	for to := range told {
		to.conn.Send(0, m)
	}
}
