package route

import (
	"net/netip"
	"slices"
)

// Ways is, of each subnet behind this host, the interfaces by which the host reaches it, in order; none where it has an
// empty list.
type Ways map[netip.Prefix][]string

// FindWays looks up the ways to subnets: the interfaces of the route that holds a subnet whole, unless that is the
// default route, and those of the routes to parts of it. The tunnel, which is ifname, is none of them.
//
// Since the routes to a subnet lead out where its hosts' packets come in, and the route to every peer into the tunnel, a
// strict reverse path filter (rp_filter) lets both through and is left alone.
func FindWays(ifname string, subnets []netip.Prefix) (Ways, error) {
	ways := Ways{}
	err := eachUnderlay(subnets, ifname, func(subnet netip.Prefix, host underlay) {
		ways[subnet] = host.ways(subnet.Masked())
	})
	if err != nil {
		return nil, err
	}
	return ways, nil
}

// ways are the interfaces that lead to the prefix, in order.
func (u underlay) ways(prefix netip.Prefix) []string {
	whole := 1 // and not the default route
	for _, r := range u.routes {
		if r.prefix.Bits() <= prefix.Bits() && r.prefix.Contains(prefix.Addr()) {
			whole = max(whole, r.prefix.Bits())
		}
	}
	var names []string
	for _, r := range u.routes {
		holds := r.prefix.Bits() == whole && r.prefix.Contains(prefix.Addr())
		part := r.prefix.Bits() > prefix.Bits() && prefix.Contains(r.prefix.Addr())
		if holds || part {
			names = append(names, r.ifname)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Interfaces are those of all ways of one family, in order.
func (w Ways) Interfaces(ipv4 bool) []string {
	var names []string
	for subnet, ways := range w {
		if subnet.Addr().Is4() == ipv4 {
			names = append(names, ways...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
