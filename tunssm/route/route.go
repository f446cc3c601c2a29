// Package route configures the TUN interface and puts the overlay's prefixes onto it, makes the host a gateway to the
// subnets behind it, and asks the host's routing tables what the SSM has to know of the underlay.
//
// What it changes hangs on the interface: deleting the interface undoes it. For an interface that was there before, and
// for what a gateway needs, sysctls and tables of nftables, there is the Journal: what is on record there is put back.
// Routes are of protocol Protocol, so that List and Del never touch another program's, and of metric Metric, which loses
// to what the host has configured for the very same prefix.
//
// All functions act in the calling thread's network namespace and on the main routing table.
package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Protocol marks our routes (rtnetlink(7), rtm_protocol); no routing daemon in iproute2's rt_protos uses it.
	Protocol = 76
	// Metric is above what DHCP clients and network managers give their routes.
	Metric = 7601
)

// Add routes prefix into the interface ifname. Adding what is there already does nothing. A prefix that another
// interface has with the same metric is ErrConflict, one of IPv6 where that is switched off ErrNoIPv6. Check says beforehand whether the host can do without what prefix
// covers.
func Add(ifname string, prefix netip.Prefix) error {
	link, err := linkByName(ifname)
	if err != nil {
		return err
	}
	ours := ourRoute(link, prefix)
	err = netlink.RouteAdd(ours)
	if switchedOff(prefix, err) {
		return fmt.Errorf("%w: cannot route %s to %s", ErrNoIPv6, prefix, ifname)
	}
	if !errors.Is(err, unix.EEXIST) {
		return wrap(err, "add route %s to %s", prefix, ifname)
	}
	routes, err := List(ifname)
	if err != nil {
		return err
	}
	for _, p := range routes {
		if p == prefix.Masked() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is routed elsewhere with metric %d already", ErrConflict, prefix, Metric)
}

// Del removes our route for prefix from ifname. Removing what is not there, from an interface that may be gone, does
// nothing.
func Del(ifname string, prefix netip.Prefix) error {
	link, err := linkByName(ifname)
	if errors.Is(err, ErrNoInterface) {
		return nil
	}
	if err != nil {
		return err
	}
	err = netlink.RouteDel(ourRoute(link, prefix))
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return wrap(err, "delete route %s from %s", prefix, ifname)
}

// List gives the prefixes of our routes on ifname, IPv4 first, in the kernel's order.
func List(ifname string) ([]netip.Prefix, error) {
	link, err := linkByName(ifname)
	if err != nil {
		return nil, err
	}
	var prefixes []netip.Prefix
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := netlink.Route{LinkIndex: link.Attrs().Index, Protocol: Protocol}
		routes, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
		})
		if err != nil {
			return nil, wrap(err, "list routes of %s", ifname)
		}
		for _, r := range routes {
			if prefix, ok := toPrefix(r.Dst); ok {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	return prefixes, nil
}

// listAttempts is how often we ask the kernel for a list that changes while it is read.
const listAttempts = 5

// whole calls a netlink listing until the kernel gives it in one piece.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for range listAttempts - 1 {
		if all, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return list()
}

// ourRoute is the on-link route we make for prefix.
func ourRoute(link netlink.Link, prefix netip.Prefix) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: fromPrefix(prefix.Masked()), Protocol: Protocol, Priority: Metric,
	}
	if prefix.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK // IPv6 has no scopes
	}
	return r
}

func linkByName(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%w: %s", ErrNoInterface, name)
	}
	return link, wrap(err, "find interface %s", name)
}

func fromPrefix(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// toPrefix reads a prefix as netlink gives it; nil and what is not a prefix are refused.
func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	if bits == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones).Masked(), true
}

// wrap names what failed, on what, and what to do where the reason is a missing privilege. It keeps nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (%s)", ErrPrivilege, what)
	}
	return fmt.Errorf("route: %s: %w", what, err)
}
