package tunssm

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// whereabouts are where this host can be reached.
type whereabouts struct {
	endpoint netip.AddrPort // configured; zero for none
	told     control.Reach  // what the KDCs have been told
	homed    time.Time      // when our addresses last changed; zero where they have not
	own      []netip.Addr   // this host's addresses, as outbound knows them
}

// reach is what the KDCs are to be told of it.
func (a *acquirer) reach() control.Reach {
	addresses := a.host.Route.Candidates()
	return control.Reach{
		Port: a.host.UDP.LocalPort(), Fixed: a.fixed(), Addresses: addresses[:min(len(addresses), control.MaxAddresses)],
	}
}

// rehome notices that this host's own addresses have changed: the KDCs are told, a connection from an address that is no
// longer ours is made anew, and a probe on each session shows the peers where we are now. An address that nobody was told
// of, a temporary one of IPv6 (RFC 8981), counts when it goes: frames came from it.
func (a *acquirer) rehome() {
	now := a.reach()
	moved := !slices.Equal(now.Addresses, a.told.Addresses)
	if moved {
		a.log.Info("addresses changed", "before", a.told.Addresses, "now", now.Addresses)
		a.told, a.homed = now, time.Now()
	}
	for conn := range a.links.live {
		switch {
		case len(now.Addresses) > 0 && stranded(conn.LocalAddr(), a.own):
			conn.Close() // its reader notices, its dialer comes back with another Hello
		case moved:
			a.reply(conn, 0, &control.Endpoint{Reach: &now})
		}
	}
	if time.Since(a.homed) < deadAfter {
		a.showPeers()
	}
}

// showPeers sends an echo on each session on which nothing was heard since our addresses changed: it comes again until it
// is answered, since it may be lost, or have found no route yet. It goes everywhere, for the family by which the peer was
// heard may be the one that we have lost.
func (a *acquirer) showPeers() {
	for _, p := range a.peers {
		if s := p.sending.Load(); s != nil && s.heardAt() < s.at(a.homed) {
			a.sendProbe(s, packet.ProbeMessage{Kind: packet.Echo, ID: proofID}, s.everywhere()...)
		}
	}
}

// stranded says that local is none of this host's own addresses.
func stranded(local net.Addr, own []netip.Addr) bool {
	tcp, ok := local.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback() && !slices.Contains(own, tcp.AddrPort().Addr().Unmap())
}
