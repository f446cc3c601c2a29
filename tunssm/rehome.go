package tunssm

import (
	"net"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// rehome notices that this host's own addresses have changed: the KDCs are told, a connection from an address that is no
// longer ours is made anew, and a probe on each session shows the peers where we are now.
func (a *acquirer) rehome() {
	now := a.reach()
	if !slices.Equal(now.Addresses, a.told.Addresses) {
		a.log.Info("addresses changed", "from", a.told.Addresses, "to", now.Addresses)
		a.told, a.homed = now, time.Now()
		for conn := range a.links.live {
			if stranded(conn.LocalAddr(), now) {
				conn.Close() // its reader notices, its dialer comes back with another Hello
				continue
			}
			a.reply(conn, 0, &control.Endpoint{Reach: &now})
		}
	}
	if time.Since(a.homed) < deadAfter {
		a.showPeers()
	}
}

// showPeers sends an echo on each session on which nothing was heard since our addresses changed: it comes again until it
// is answered, since it may be lost, or have found no route yet.
func (a *acquirer) showPeers() {
	for _, p := range a.peers {
		if s := p.sending.Load(); s != nil && s.heardAt() < s.at(a.homed) {
			a.sendProbe(nil, s, packet.ProbeMessage{Kind: packet.Echo, ID: proofID}, s.target())
		}
	}
}

// stranded says that local is none of the addresses left. Loopback always is; where there are more than a Reach lists, a
// connection may be made anew in vain.
func stranded(local net.Addr, now control.Reach) bool {
	tcp, ok := local.(*net.TCPAddr)
	if !ok || tcp.IP.IsLoopback() || len(now.Addresses) == 0 {
		return false
	}
	return !slices.Contains(now.Addresses, tcp.AddrPort().Addr().Unmap())
}
