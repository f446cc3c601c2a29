// Package route sets up the TUN interface and the routes into it, and says how the host would send.
//
// What it changes hangs on the interface: deleting the interface undoes it. One that was there before is put on record
// first (Adopt). Its routes are of protocol kernel.Protocol, so that List and Del never touch another program's, and of a
// metric that loses to what the host has configured for the very same prefix.
//
// All functions act in the calling thread's network namespace and on the main routing table.
package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// metric is above what DHCP clients and network managers give their routes.
const metric = 7601

// Add routes prefix into the interface ifname. Adding what is there already does nothing. A prefix that another
// interface has with the same metric is ErrConflict, one of IPv6 where that is switched off ErrNoIPv6. Check says beforehand
// whether the host can do without what prefix covers.
func Add(ifname string, prefix netip.Prefix) error {
	link, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	ours := ourRoute(link, prefix)
	err = netlink.RouteAdd(ours)
	if switchedOff(prefix, err) {
		return fmt.Errorf("%w: cannot route %s to %s", ErrNoIPv6, prefix, ifname)
	}
	if !errors.Is(err, unix.EEXIST) {
		return kernel.Wrap(err, "add route %s to %s", prefix, ifname)
	}
	routes, err := List(ifname)
	if err != nil {
		return err
	}
	if slices.Contains(routes, prefix.Masked()) {
		return nil
	}
	return fmt.Errorf("%w: %s is routed elsewhere with metric %d already", ErrConflict, prefix, metric)
}

// Del removes our route for prefix from ifname. Removing what is not there, from an interface that may be gone, does
// nothing.
func Del(ifname string, prefix netip.Prefix) error {
	link, err := kernel.Link(ifname)
	if errors.Is(err, ErrNoInterface) {
		return nil
	}
	if err != nil {
		return err
	}
	return kernel.Wrap(kernel.RemoveRoute(ourRoute(link, prefix)), "delete route %s from %s", prefix, ifname)
}

// List gives the prefixes of our routes on ifname, IPv4 first, in the kernel's order.
func List(ifname string) ([]netip.Prefix, error) {
	link, err := kernel.Link(ifname)
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, family := range kernel.Families {
		routes, err := kernel.RoutesOf(link, family, netlink.Route{Protocol: kernel.Protocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if prefix, ok := kernel.Prefix(r.Dst); ok {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	return prefixes, nil
}

// ourRoute is the on-link route we make for prefix.
func ourRoute(link netlink.Link, prefix netip.Prefix) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: kernel.Network(prefix.Masked()), Protocol: kernel.Protocol, Priority: metric,
	}
	if prefix.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK // IPv6 has no scopes
	}
	return r
}
