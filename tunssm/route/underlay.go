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
)

// Check says which of the prefixes may not be routed into ifname: those that the answer has ErrConflict for, with the
// reason. That is where a prefix
//
//   - overlaps a network that another interface is connected to,
//   - is routed by the host itself, with the same length, to somewhere else, or
//   - covers one of avoid (the underlay addresses of KDCs and peers) and the host has no more specific route to it: the
//     tunnel's own frames would enter the tunnel.
//
// Addresses of the host itself are never routed and so never avoided. The host's tables are read once for each family.
func Check(prefixes []netip.Prefix, ifname string, avoid []netip.Addr) (map[netip.Prefix]error, error) {
	conflicts := map[netip.Prefix]error{}
	err := eachUnderlay(prefixes, ifname, func(prefix netip.Prefix, host underlay) {
		if err := host.check(prefix.Masked(), avoid); err != nil {
			conflicts[prefix] = err
		}
	})
	if err != nil {
		return nil, err
	}
	return conflicts, nil
}

// eachUnderlay calls do with each prefix and what the host has in its family, which is read once.
func eachUnderlay(prefixes []netip.Prefix, ifname string, do func(netip.Prefix, underlay)) error {
	hosts := map[bool]underlay{}
	for _, prefix := range prefixes {
		ipv4 := prefix.Addr().Is4()
		host, known := hosts[ipv4]
		if !known {
			var err error
			if host, err = readUnderlay(ifname, ipv4); err != nil {
				return err
			}
			hosts[ipv4] = host
		}
		do(prefix, host)
	}
	return nil
}

// underlay is what the host has without our interface, in one family.
type underlay struct {
	connected []attached // its networks, one for each address
	routes    []attached // its unicast routes, the connected networks' among them
	own       map[netip.Addr]bool
}

// attached is a prefix and the interface it leads to.
type attached struct {
	prefix netip.Prefix
	ifname string
}

func (u underlay) check(prefix netip.Prefix, avoid []netip.Addr) error {
	for _, network := range u.connected {
		if prefix.Overlaps(network.prefix) {
			return fmt.Errorf("%w: %s overlaps %s, which is connected to %s",
				ErrConflict, prefix, network.prefix, network.ifname)
		}
	}
	for _, r := range u.routes {
		if r.prefix == prefix {
			return fmt.Errorf("%w: this host routes %s to %s already", ErrConflict, prefix, r.ifname)
		}
	}
	for _, addr := range avoid {
		addr = addr.Unmap().WithZone("")
		if prefix.Contains(addr) && !u.own[addr] && u.longest(addr) <= prefix.Bits() {
			return fmt.Errorf("%w: %s covers %s, the underlay address of a KDC or peer, and no narrower route does",
				ErrConflict, prefix, addr)
		}
	}
	return nil
}

// longest is the length of the host's most specific route to addr, -1 without any.
func (u underlay) longest(addr netip.Addr) int {
	bits := -1
	for _, r := range u.routes {
		if r.prefix.Contains(addr) {
			bits = max(bits, r.prefix.Bits())
		}
	}
	return bits
}

// readUnderlay asks the kernel for the addresses and the main table's routes that do not belong to ifname.
func readUnderlay(ifname string, ipv4 bool) (underlay, error) {
	family := netlink.FAMILY_V6
	if ipv4 {
		family = netlink.FAMILY_V4
	}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return underlay{}, wrap(err, "list interfaces")
	}
	names := make(map[int]string, len(links))
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	u := underlay{own: make(map[netip.Addr]bool)}
	addresses, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return underlay{}, wrap(err, "list addresses")
	}
	for _, address := range addresses {
		u.addAddress(address, names[address.LinkIndex], ifname)
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return underlay{}, wrap(err, "list routes")
	}
	for _, r := range routes {
		u.addRoute(r, names, ifname)
	}
	return u, nil
}

func (u *underlay) addAddress(address netlink.Addr, name, exclude string) {
	prefix, ok := addrPrefix(address.IPNet)
	if !ok || name == exclude {
		return
	}
	u.own[prefix.Addr()] = true
	u.connected = append(u.connected, attached{prefix.Masked(), name})
	if peer, ok := toPrefix(address.Peer); ok && peer != prefix.Masked() {
		u.connected = append(u.connected, attached{peer, name}) // the other end of a point-to-point link
	}
}

// addRoute keeps a route that leads somewhere without our interface, once for each of its next hops.
func (u *underlay) addRoute(r netlink.Route, names map[int]string, exclude string) {
	prefix, ok := toPrefix(r.Dst)
	if !ok || r.Type != unix.RTN_UNICAST {
		return
	}
	hops := []int{r.LinkIndex}
	if len(r.MultiPath) > 0 {
		hops = hops[:0]
		for _, hop := range r.MultiPath {
			hops = append(hops, hop.LinkIndex)
		}
	}
	for _, index := range hops {
		if names[index] != exclude {
			u.routes = append(u.routes, attached{prefix, names[index]})
		}
	}
}

// UnderlayMTU is the longest packet the host sends to dst in one piece: what the route says, or has learnt of the
// path, or else the interface's MTU. Errors: ErrUnreachable.
func UnderlayMTU(dst netip.Addr) (int, error) {
	r, err := routeTo(dst)
	if err != nil {
		return 0, err
	}
	_, mtu, err := by(r, dst)
	return mtu, err
}

// by is the interface of a route to dst, and the longest packet for it.
func by(r netlink.Route, dst netip.Addr) (ifname string, mtu int, err error) {
	link, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return "", 0, wrap(err, "find the interface towards %s", dst)
	}
	if mtu = link.Attrs().MTU; r.MTU > 0 {
		mtu = min(mtu, r.MTU)
	}
	return link.Attrs().Name, mtu, nil
}

// Way is how the host would send to dst: by which interface, because of a route to which prefix, and the longest packet.
// Errors: ErrUnreachable.
func Way(dst netip.Addr) (ifname string, prefix netip.Prefix, mtu int, err error) {
	r, err := routeTo(dst)
	if err != nil {
		return "", prefix, 0, err
	}
	if ifname, mtu, err = by(r, dst); err != nil {
		return "", prefix, 0, err
	}
	matched, err := netlink.RouteGetWithOptions(net.IP(dst.Unmap().AsSlice()), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(matched) == 0 {
		return "", prefix, 0, wrap(cmp.Or(err, ErrUnreachable), "find the route to %s", dst)
	}
	prefix, _ = toPrefix(matched[0].Dst)
	return ifname, prefix, mtu, nil
}

// Enters says whether the host would send to dst through the interface with that index, by whatever route: ours, an
// operator's or another program's. What goes nowhere does not go there.
func Enters(index int, dst netip.Addr) bool {
	r, err := routeTo(dst)
	return err == nil && r.LinkIndex == index
}

// Index is the interface's number, by which routes name it.
func Index(ifname string) (int, error) {
	link, err := linkByName(ifname)
	if err != nil {
		return 0, err
	}
	return link.Attrs().Index, nil
}

// Own are the addresses of all the host's interfaces, in order.
func Own() ([]netip.Addr, error) {
	addresses, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, wrap(err, "list addresses")
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
		return netlink.Route{}, wrap(err, "find the route to %s", dst)
	}
	return routes[0], nil
}

// DefaultSource is the address the host sends from by its default route, the one of the least metric, IPv4 before IPv6.
// Errors: ErrUnreachable where it has no default route.
func DefaultSource() (netip.Addr, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		best, err := defaultRoute(family)
		if err != nil {
			return netip.Addr{}, err
		}
		if best == nil {
			continue
		}
		if src, ok := netip.AddrFromSlice(best.Src); ok {
			return src.Unmap(), nil
		}
		if gw, ok := netip.AddrFromSlice(best.Gw); ok && !gw.IsLinkLocalUnicast() {
			return SourceFor(gw)
		}
		if src, ok := linkSource(best.LinkIndex, family); ok {
			return src, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: this host has no default route", ErrUnreachable)
}

// defaultRoute is the family's default route of the least metric, nil without one.
func defaultRoute(family int) (*netlink.Route, error) {
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
	if err != nil {
		return nil, wrap(err, "list routes")
	}
	var best *netlink.Route
	for i, r := range routes {
		prefix, ok := toPrefix(r.Dst)
		if ok && prefix.Bits() == 0 && r.Type == unix.RTN_UNICAST && (best == nil || r.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	return best, nil
}

// linkSource is the first address of the interface that is good beyond the link.
func linkSource(index, family int) (netip.Addr, bool) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return netip.Addr{}, false
	}
	addresses, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
	if err != nil {
		return netip.Addr{}, false
	}
	for _, address := range addresses {
		if addr, ok := netip.AddrFromSlice(address.IP); ok && addr.Unmap().IsGlobalUnicast() {
			return addr.Unmap(), true
		}
	}
	return netip.Addr{}, false
}
