package route

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// Check says which of the prefixes may not be routed into ifname: those that the answer has ErrConflict for, with the
// reason. That is where a prefix
//
//   - overlaps a network that another interface is connected to,
//   - is routed by the host itself, with the same length, to somewhere else, or
//   - covers one of avoid (the underlay addresses of KDCs and peers) and the host has no more specific route to it: the
//     tunnel's own frames would enter the tunnel.
//
// The host's tables are read once for each family.
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
		if prefix.Contains(addr) && u.longest(addr) <= prefix.Bits() {
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
	links, err := kernel.Links()
	if err != nil {
		return underlay{}, err
	}
	names := make(map[int]string, len(links))
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
	}
	var u underlay
	addresses, err := kernel.Addresses(nil, family)
	if err != nil {
		return underlay{}, err
	}
	for _, address := range addresses {
		u.addAddress(address, names[address.LinkIndex], ifname)
	}
	routes, err := kernel.Routes(family)
	if err != nil {
		return underlay{}, err
	}
	for _, r := range routes {
		u.addRoute(r, names, ifname)
	}
	return u, nil
}

func (u *underlay) addAddress(address netlink.Addr, name, exclude string) {
	prefix, ok := kernel.AddressPrefix(address.IPNet)
	if !ok || name == exclude {
		return
	}
	u.connected = append(u.connected, attached{prefix.Masked(), name})
	if peer, ok := kernel.Prefix(address.Peer); ok && peer != prefix.Masked() {
		u.connected = append(u.connected, attached{peer, name}) // the other end of a point-to-point link
	}
}

// addRoute keeps a route that leads somewhere without our interface, once for each of its next hops.
func (u *underlay) addRoute(r netlink.Route, names map[int]string, exclude string) {
	prefix, ok := kernel.Prefix(r.Dst)
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
