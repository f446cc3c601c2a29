package tunssm

import (
	"net/netip"
	"slices"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// reachable leaves out candidates that lie inside the tunnel, where frames would go round in circles: those within an
// overlay, or that the host routes into the interface, whoever made that route. The argument stays as it is.
func (a *acquirer) reachable(candidates []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(candidates), func(c netip.AddrPort) bool {
		inside := packet.Covers(a.config.Overlays, c.Addr()) || a.host.Route.Enters(c.Addr())
		return inside || !packet.Forwardable(c.Addr()) && !c.Addr().IsLoopback()
	})
}

// setCandidates gives s the candidates that a KDC names; those it can use now are what it tries.
func (a *acquirer) setCandidates(s *session, candidates []netip.AddrPort) {
	s.named = candidates
	usable := a.reachable(candidates)
	s.candidates.Store(&usable)
}

// rerouted: other routes lead into the tunnel now, so other candidates lie outside it, and other KDCs.
func (a *acquirer) rerouted() {
	a.knowOwn()
	a.leaveLoops()
	for _, p := range a.peers {
		for _, s := range p.sessions {
			a.setCandidates(s, s.named)
		}
	}
}

// onEndpoint takes new candidates of a peer: its provisional session tries them.
func (a *acquirer) onEndpoint(m *control.Endpoint) {
	p := a.peers[m.Peer]
	if p == nil || len(a.reachable(m.Candidates)) == 0 {
		return
	}
	for _, s := range p.sessions {
		if s.heardAt() == 0 {
			a.setCandidates(s, m.Candidates)
		}
	}
}

// target is where data goes: to where the peer was last heard from, or to its first candidate until it has been heard on
// this session.
func (s *session) target() netip.AddrPort {
	candidates := *s.candidates.Load()
	e := s.peer.endpoint.Load()
	switch {
	case e != nil && (s.heardAt() != 0 || len(candidates) == 0):
		return *e
	case len(candidates) > 0:
		return candidates[0]
	}
	return netip.AddrPort{} // another run of the peer has taken over and not yet been heard: Send fails and is counted
}

// everywhere is all the places where the peer might be: its candidates, and where it was last heard from.
func (s *session) everywhere() []netip.AddrPort {
	candidates := *s.candidates.Load()
	e := s.peer.endpoint.Load()
	if e == nil || slices.Contains(candidates, *e) {
		return candidates
	}
	return append([]netip.AddrPort{*e}, candidates...)
}
