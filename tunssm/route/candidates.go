package route

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// unusable are the states of an IPv6 address nobody should be told of: not yet or not any more verified, on its way
// out, or of the kind that changes every day (RFC 8981).
const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY

// Candidates are the host's addresses at which other SSMs may reach this one, the best first: of interfaces that are up,
// never loopback, link-local or multicast ones, and none of the interface exclude (the TUN). Those of the interfaces with a
// default route come first, then by interface index; every interface gives its first address of each family before any
// gives its second, so that of a host with many addresses the first few are still of both families.
func Candidates(exclude string) ([]netip.Addr, error) {
	links, err := kernel.Links()
	if err != nil {
		return nil, err
	}
	uplinks, err := uplinks()
	if err != nil {
		return nil, err
	}
	var found []candidate
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Name == exclude || attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := kernel.Addresses(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		found = append(found, candidatesOf(addresses, attrs.Index, uplinks[attrs.Index])...)
	}
	slices.SortStableFunc(found, candidate.compare)
	addrs := make([]netip.Addr, len(found))
	for i, c := range found {
		addrs[i] = c.addr
	}
	return addrs, nil
}

// candidate is an address and what decides its place among the others.
type candidate struct {
	addr   netip.Addr
	nth    int // among the addresses of its family on its interface
	uplink bool
	index  int // of the interface
}

func (c candidate) compare(other candidate) int {
	first := 0
	if c.uplink != other.uplink {
		first = 1
		if c.uplink {
			first = -1
		}
	}
	return cmp.Or(cmp.Compare(c.nth, other.nth), first, cmp.Compare(c.index, other.index))
}

// candidatesOf are the usable ones among an interface's addresses.
func candidatesOf(addresses []netlink.Addr, index int, uplink bool) []candidate {
	var found []candidate
	seen := map[bool]int{} // by whether they are IPv4
	for _, address := range addresses {
		addr, ok := netip.AddrFromSlice(address.IP)
		addr = addr.Unmap()
		if !ok || address.Flags&unusable&^secondary(addr) != 0 || !addr.IsGlobalUnicast() {
			continue
		}
		found = append(found, candidate{addr: addr, nth: seen[addr.Is4()], uplink: uplink, index: index})
		seen[addr.Is4()]++
	}
	return found
}

// secondary is IFA_F_TEMPORARY for IPv4, where the same bit says no more than that an address is not the subnet's
// first.
func secondary(addr netip.Addr) int {
	if addr.Is4() {
		return unix.IFA_F_SECONDARY
	}
	return 0
}

// uplinks are the indices of the interfaces with a default route.
func uplinks() (map[int]bool, error) {
	links := map[int]bool{}
	for _, family := range kernel.Families {
		routes, err := kernel.Routes(family)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if prefix, ok := kernel.Prefix(r.Dst); ok && prefix.Bits() == 0 && r.Type == unix.RTN_UNICAST {
				links[r.LinkIndex] = true
			}
		}
	}
	return links, nil
}
