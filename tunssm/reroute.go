package tunssm

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"ssmnet/packet/control"
)

// routing is what has become of the routes that the KDCs offer.
type routing struct {
	routed  []netip.Prefix         // as offered to the host last
	refused map[netip.Prefix]error // by the host, of those
	avoided []netip.Addr           // what it was to keep out of the tunnel
	inside  map[string]netip.Addr  // peers last heard from inside an offered route
}

func newRouting() routing { return routing{inside: map[string]netip.Addr{}} }

// Reroute offers the routes to the host anew, and has it look anew where its subnets are: an operator has decided otherwise
// of them, or the host's own network has changed, so that what stood in the way of one may have gone, or come.
func (s *SSM) Reroute() error {
	return s.onAcquirer(func(a *acquirer) error {
		a.reroute()
		a.forward()
		return nil
	})
}

// reroute offers the host the routes of the newest configuration, and says in the log what has become of them.
func (a *acquirer) reroute() {
	known, before := a.routed, a.refused
	a.routed, a.avoided = a.config.Routes, a.avoid()
	a.refused = a.host.Route.Offer(a.routed, a.avoided)
	changed := maps.Clone(before)
	if changed == nil {
		changed = map[netip.Prefix]error{}
	}
	maps.Copy(changed, a.refused)
	for _, prefix := range slices.SortedFunc(maps.Keys(changed), comparePrefix) {
		was, is := before[prefix], a.refused[prefix]
		switch {
		case is == nil && slices.Contains(a.routed, prefix):
			a.log.Info("installed a route", "route", prefix, "before", was)
		case is == nil: // no longer offered
		case was != nil && was.Error() == is.Error():
		case errors.Is(is, ErrDeclined):
			a.log.Info("declined a route", "route", prefix, "reason", is)
		case was == nil && slices.Contains(known, prefix):
			a.log.Warn("withdrew a route", "route", prefix, "error", is)
		default:
			a.log.Warn("refused a route", "route", prefix, "error", is)
		}
	}
	a.rerouted()
}

// tendRoutes offers the routes anew where a KDC or a peer has come to be inside one of them, or has left it.
func (a *acquirer) tendRoutes() {
	if !slices.Equal(a.avoid(), a.avoided) {
		a.reroute()
	}
}

// avoid is every underlay address inside an offered route to which frames or control messages go, in order. A peer that
// was heard from inside one counts until it is heard from elsewhere, also while there is no session: were its route to
// come back meanwhile, the peer could not be reached any more.
func (a *acquirer) avoid() []netip.Addr {
	if len(a.config.Routes) == 0 {
		clear(a.inside)
		return nil
	}
	var offered bart.Lite
	for _, prefix := range a.config.Routes {
		offered.Insert(prefix)
	}
	for _, p := range a.peers {
		if s, e := p.sending.Load(), p.endpoint.Load(); s != nil && s.state == confirmed && e != nil {
			a.inside[p.name] = e.Addr()
		}
	}
	maps.DeleteFunc(a.inside, func(_ string, addr netip.Addr) bool { return !offered.Contains(addr) })
	list := slices.DeleteFunc(a.underlay(), func(addr netip.Addr) bool { return !offered.Contains(addr) })
	list = slices.AppendSeq(list, maps.Values(a.inside))
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// underlay is every underlay address that frames or control messages go to now: the KDCs', where they are or were last,
// the peers' endpoints, and the candidates of sessions that have yet to find one.
func (a *acquirer) underlay() []netip.Addr {
	var list []netip.Addr
	for conn := range a.links.live {
		if addr, ok := remote(conn); ok {
			list = append(list, addr)
		}
	}
	for _, l := range a.links.list {
		if l.at.IsValid() {
			list = append(list, l.at)
		}
		if at, err := netip.ParseAddrPort(l.address); err == nil {
			list = append(list, at.Addr().Unmap())
		}
	}
	for _, p := range a.peers {
		if e := p.endpoint.Load(); e != nil {
			list = append(list, e.Addr())
		}
		for _, s := range p.sessions {
			if s.heardAt() != 0 {
				continue
			}
			for _, c := range *s.candidates.Load() {
				list = append(list, c.Addr())
			}
		}
	}
	return list
}

// remote is the address at the other end of a connection.
func remote(conn *control.Conn) (netip.Addr, bool) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return tcp.AddrPort().Addr().Unmap(), true
}
