package tunssm

// No loops: what leaves by the underlay must not enter the tunnel, or each packet would be sealed again and again. Routes
// change at any time and are not ours alone, so there are three lines of defence:
//
//	routes      one that covers an underlay address in use is refused or withdrawn (reroute.go), unless it is forced
//	addresses   a candidate or a KDC that the host's own routing leads into the interface is not used (endpoint.go;
//	            Dial); a connection that has come to lead there is ended
//	frames      what comes back all the same is known by its origin and dropped (outbound.go); the next go to another
//	            candidate of the peer, if there is one

import (
	"net/netip"
	"slices"
	"time"

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

// knowOwn tells outbound of the host's addresses as they are now. Where one has gone, peers may be sending to it.
func (a *acquirer) knowOwn() {
	own := a.host.Route.Own()
	if len(own) == 0 || slices.Equal(own, a.own) {
		return // where they cannot be read, they are as they were
	}
	if slices.ContainsFunc(a.own, func(addr netip.Addr) bool { return !slices.Contains(own, addr) }) {
		a.homed = time.Now()
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
		if addr, ok := remote(conn); ok && a.host.Route.Enters(addr) {
			conn.Close()
		}
	}
}

// loops are frames of ours that have come back.
type loops struct {
	looped uint64    // when they were counted last
	loopAt time.Time // when some had
}

// quietLoop is how long none of our frames may come back until the next that does is a matter of its own.
const quietLoop = time.Minute

// tellLoops warns when frames begin to come back, and has them go another way.
func (a *acquirer) tellLoops() {
	looped := a.drops[dropLoop].Load()
	if looped == a.looped {
		return
	}
	told := time.Since(a.loopAt) < quietLoop
	a.looped, a.loopAt = looped, time.Now()
	for _, p := range a.peers {
		e := p.endpoint.Load()
		if e == nil || !a.host.Route.Enters(e.Addr()) {
			continue
		}
		if !told {
			a.log.Warn("frames to a peer come back: the host routes its endpoint into the tunnel",
				"peer", p.name, "endpoint", e, "interface", a.host.TUN.Name())
		}
		a.elsewhere(p)
	}
}

// elsewhere forgets where a peer was heard from, if there is a candidate outside the tunnel. The peer's frames come from
// there too, once ours have.
func (a *acquirer) elsewhere(p *peer) {
	s := p.sending.Load()
	if s == nil {
		return
	}
	a.setCandidates(s, s.named)
	if len(*s.candidates.Load()) > 0 {
		p.endpoint.Store(nil)
	}
}

// fixed is the configured endpoint, but none where it lies inside an overlay: no peer could reach us by it.
func (a *acquirer) fixed() netip.AddrPort {
	if packet.Covers(a.config.Overlays, a.endpoint.Addr()) {
		return netip.AddrPort{}
	}
	return a.endpoint
}
