package tunssm

import (
	"net"
	"slices"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// rehome notices that this host's own addresses have changed: the KDCs are told, a connection from an address that is no
// longer ours is made anew, and a probe on each session shows the peers where we are now.
func (a *acquirer) rehome() {
	now := a.reach()
	if slices.Equal(now.Addresses, a.told.Addresses) {
		return
	}
	a.log.Info("addresses changed", "from", a.told.Addresses, "to", now.Addresses)
	a.told = now
	for conn := range a.links.live {
		if stranded(conn.LocalAddr(), now) {
			conn.Close() // its reader notices, its dialer comes back with another Hello
			continue
		}
		a.reply(conn, 0, &control.Endpoint{Reach: &now})
	}
	for _, p := range a.peers {
		if s := p.sending.Load(); s != nil {
			a.sendProbe(nil, s, packet.ProbeMessage{Kind: packet.Keepalive}, s.target())
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
