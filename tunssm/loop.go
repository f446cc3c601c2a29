package tunssm

// No loops: what leaves by the underlay must not enter the tunnel, or each packet would be sealed again and again. Routes
// change at any time and are not ours alone, so there are three lines of defence:
//
//	routes      one that covers an underlay address in use is refused or withdrawn (reroute.go), unless it is forced
//	addresses   a candidate or a KDC that the host's own routing leads into the interface is not used (candidates.go;
//	            Dial); a connection that has come to lead there is ended
//	frames      what comes back all the same is known by its origin and dropped (outbound.go)

import (
	"net/netip"
	"slices"

	"ssmnet/packet"
)

// origin is where this host's frames come from: its port, which no other program can have, and its addresses. A host
// behind us may use the same port.
type origin struct {
	port      uint16
	addresses map[netip.Addr]bool
}

// sent says whether a packet of flow f is one of our own frames. Of a frame that the host has cut to fit the interface it
// knows the first fragment alone; the others go no further than one round.
func (o *origin) sent(f packet.Flow) bool {
	return f.SrcPort == o.port && f.Protocol == packet.UDP && o.addresses[f.Src]
}

// knowOwn tells the outbound loop of the host's addresses as they are now.
func (a *acquirer) knowOwn() {
	own := a.host.Route.Own()
	if slices.Equal(own, a.own) {
		return
	}
	a.own = own
	o := &origin{a.host.UDP.LocalPort(), make(map[netip.Addr]bool, len(own))}
	for _, addr := range own {
		o.addresses[addr] = true
	}
	a.origin.Store(o)
}

// leaveLoops ends the connections to KDCs that the host would now send through the interface. Their dialers say why there
// is none until the route has gone.
func (a *acquirer) leaveLoops() {
	for conn := range a.links.live {
		if addr, ok := remote(conn); ok && a.enters(addr) {
			conn.Close()
		}
	}
}

// enters says whether the host would send to an underlay address through the interface, by whatever route.
func (a *acquirer) enters(dst netip.Addr) bool {
	by, _, _, err := a.host.Route.Way(dst)
	return err == nil && by == a.host.TUN.Name()
}

// tellLoops warns when frames begin to come back, once until they have stopped.
func (a *acquirer) tellLoops() {
	before := a.looped
	a.looped = a.drops[dropLoop].Load()
	began := a.looped > before && !a.looping
	a.looping = a.looped > before
	if !began {
		return
	}
	for _, p := range a.peers {
		if e := p.endpoint.Load(); e != nil && a.enters(e.Addr()) {
			a.log.Warn("frames to a peer come back: the host routes its endpoint into the tunnel",
				"peer", p.name, "endpoint", e, "interface", a.host.TUN.Name())
		}
	}
}

// fixed is the configured endpoint, but none where it lies inside an overlay: no peer could reach us by it.
func (a *acquirer) fixed() netip.AddrPort {
	if covers(a.config.Overlays, a.endpoint.Addr()) {
		return netip.AddrPort{}
	}
	return a.endpoint
}
