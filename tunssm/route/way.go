package route

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// Way is how the host would send to dst: by which interface, because of a route to which prefix, and the longest packet
// that goes in one piece: what the route says, or has learnt of the path, or else the interface's MTU.
// Errors: ErrUnreachable.
func Way(dst netip.Addr) (ifname string, prefix netip.Prefix, mtu int, err error) {
	r, err := routeTo(dst)
	if err != nil {
		return "", prefix, 0, err
	}
	link, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return "", prefix, 0, kernel.Wrap(err, "find the interface towards %s", dst)
	}
	if mtu = link.Attrs().MTU; r.MTU > 0 {
		mtu = min(mtu, r.MTU)
	}
	matched, err := netlink.RouteGetWithOptions(net.IP(dst.Unmap().AsSlice()), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(matched) == 0 {
		return "", prefix, 0, kernel.Wrap(cmp.Or(err, ErrUnreachable), "find the route to %s", dst)
	}
	prefix, _ = kernel.Prefix(matched[0].Dst)
	return link.Attrs().Name, prefix, mtu, nil
}

// Enters says whether the host would send to dst through the interface with that index, by whatever route: ours, an
// operator's or another program's. What goes nowhere does not go there.
func Enters(index int, dst netip.Addr) bool {
	r, err := routeTo(dst)
	return err == nil && r.LinkIndex == index
}

// Index is the interface's number, by which routes name it.
func Index(ifname string) (int, error) {
	link, err := kernel.Link(ifname)
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// Own are the addresses of all the host's interfaces, in order.
func Own() ([]netip.Addr, error) {
	addresses, err := kernel.Addresses(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	for _, address := range addresses {
		if addr, ok := netip.AddrFromSlice(address.IP); ok {
			own = append(own, addr.Unmap())
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return slices.Compact(own), nil
}

// SourceFor is the address the host would send from to dst. Errors: ErrUnreachable.
func SourceFor(dst netip.Addr) (netip.Addr, error) {
	r, err := routeTo(dst)
	if err != nil {
		return netip.Addr{}, err
	}
	src, ok := netip.AddrFromSlice(r.Src)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%w: the route to %s has no source address", ErrUnreachable, dst)
	}
	return src.Unmap(), nil
}

// routeTo asks the kernel how it would send to dst. Nothing is sent.
func routeTo(dst netip.Addr) (netlink.Route, error) {
	if !dst.IsValid() {
		return netlink.Route{}, fmt.Errorf("%w: no address given", ErrUnreachable)
	}
	routes, err := netlink.RouteGet(net.IP(dst.Unmap().AsSlice()))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || err == nil && len(routes) == 0 {
		return netlink.Route{}, fmt.Errorf("%w to %s", ErrUnreachable, dst)
	}
	if err != nil {
		return netlink.Route{}, kernel.Wrap(err, "find the route to %s", dst)
	}
	return routes[0], nil
}
