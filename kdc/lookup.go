package kdc

import "ssmnet/packet/control"

// lookup answers who has a destination, and what would be decided on a KeyRequest for it. Nothing is issued, so it is
// counted and not audited. Of a peer that policy keeps the asker from it tells no more than the denial of a request would:
// not even the name of whoever has an address. Where suspension alone keeps them apart it says that, as the revocation of
// their sessions has.
func (k *KDC) lookup(c *connection, m *control.Lookup) *control.LookupReply {
	k.counts.lookups.Add(1)
	s := k.snapshot.Load()
	p := s.peers[m.Name]
	if m.Flow != nil {
		p = s.owner(m.Flow.Dst)
	}
	switch {
	case k.audit.failing() != nil:
		return &control.LookupReply{Reason: control.Unavailable}
	case k.detached():
		return &control.LookupReply{Reason: control.Detached}
	case p == nil || m.Name != "" && m.Name != p.name:
		return &control.LookupReply{Reason: control.Unknown}
	case p.name == c.name:
		return &control.LookupReply{Peer: p.name, Reason: control.Malformed}
	case s.compiled.SuspensionAlone(c.name, p.name, k.now()):
		return &control.LookupReply{Peer: p.name, Reason: control.Suspended}
	case !s.compiled.DecidePair(c.name, p.name, k.now()).Permitted:
		return &control.LookupReply{Peer: m.Name, Reason: control.Denied}
	}
	r := &control.LookupReply{Peer: p.name, Addresses: p.record.Addresses, Prefixes: p.prefixes, Permitted: true}
	k.mu.Lock()
	r.Online = k.connected(p.name) != nil
	k.mu.Unlock()
	if m.Flow != nil {
		d := s.compiled.Decide(c.name, p.name, *m.Flow, k.now())
		r.Permitted, r.Grant, r.Replies = d.Permitted, d.Grant, d.Mirrored
	}
	switch {
	case !r.Permitted:
		r.Reason = control.Denied
	case !r.Online:
		r.Reason = control.Offline
	}
	return r
}
