// Package kernel reads what the Linux kernel keeps of the calling thread's network: interfaces, addresses, routes and
// sysctls. Lists are whole, prefixes are netip's, and errors say what was refused.
package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes among all others (rtnetlink(7), rtm_protocol); no routing daemon in iproute2's rt_protos uses
// it.
const Protocol = 76

// Link finds an interface. Errors: ErrNoInterface.
func Link(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%w: %s", ErrNoInterface, name)
	}
	return link, Wrap(err, "find interface %s", name)
}

// Links are all interfaces.
func Links() ([]netlink.Link, error) {
	links, err := whole(netlink.LinkList)
	return links, Wrap(err, "list interfaces")
}

// Addresses are those of an interface, or where that is nil of all, and of one family (netlink.FAMILY_V4) or of both.
func Addresses(of netlink.Link, family int) ([]netlink.Addr, error) {
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(of, family) })
	if of == nil {
		return list, Wrap(err, "list addresses")
	}
	return list, Wrap(err, "list addresses of %s", of.Attrs().Name)
}

// Routes are those of one family in the main table, whatever they lead to.
func Routes(family int) ([]netlink.Route, error) {
	list, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	return list, Wrap(err, "list routes")
}

// RoutesOf are those routes into an interface that are like another in the fields that the mask names
// (netlink.RT_FILTER_PROTOCOL).
func RoutesOf(link netlink.Link, family int, like netlink.Route, fields uint64) ([]netlink.Route, error) {
	like.LinkIndex = link.Attrs().Index
	list, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &like, fields|netlink.RT_FILTER_OIF)
	})
	return list, Wrap(err, "list routes of %s", link.Attrs().Name)
}

// attempts is how often we ask the kernel for a list that changes while it is read.
const attempts = 5

// whole calls a netlink listing until the kernel gives it in one piece.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for range attempts - 1 {
		if all, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return list()
}

// Families are IPv4 and IPv6, as netlink numbers them.
var Families = [...]int{netlink.FAMILY_V4, netlink.FAMILY_V6}

// Network is a prefix as netlink wants it, not masked.
func Network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Prefix reads a prefix as netlink gives it, and masks it; nil and what is not a prefix are refused.
func Prefix(n *net.IPNet) (netip.Prefix, bool) {
	p, ok := AddressPrefix(n)
	return p.Masked(), ok
}

// AddressPrefix is Prefix of an interface's address, which it leaves whole.
func AddressPrefix(n *net.IPNet) (netip.Prefix, bool) {
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
	return netip.PrefixFrom(addr, ones), true
}

// RemoveRoute removes a route that may have gone.
func RemoveRoute(r *netlink.Route) error {
	if err := netlink.RouteDel(r); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// RemoveAddress removes an interface's address that may have gone.
func RemoveAddress(link netlink.Link, a netlink.Addr) error {
	if err := netlink.AddrDel(link, &a); !errors.Is(err, unix.EADDRNOTAVAIL) {
		return Wrap(err, "remove address %s from %s", a.IPNet, link.Attrs().Name)
	}
	return nil
}
