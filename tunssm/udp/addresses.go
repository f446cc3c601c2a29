package udp

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

// MaxAddresses is how many addresses an SSM offers as candidates.
const MaxAddresses = 8

// listAttempts is how often we ask the kernel for a list that changes while it is read.
const listAttempts = 5

// unusable are the states of an IPv6 address nobody should be told of: not yet or not any more verified, on its way
// out, or of the kind that changes every day (RFC 8981).
const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY

// LocalAddresses are the host's addresses at which other SSMs may reach this one: at most MaxAddresses, of
// interfaces that are up, never loopback, link-local or multicast ones, and none of the interface exclude (the TUN).
// Those of the interfaces with a default route come first, then by interface index; every interface gives its first
// address of each family before any gives its second, so that a host with many addresses still offers both families.
func LocalAddresses(exclude string) ([]netip.Addr, error) {
	for range listAttempts - 1 {
		if addrs, err := localAddresses(exclude); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return addrs, err
		}
	}
	return localAddresses(exclude)
}

func localAddresses(exclude string) ([]netip.Addr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("udp: list interfaces: %w", err)
	}
	uplinks, err := defaultLinks()
	if err != nil {
		return nil, err
	}
	var found []candidate
	for _, link := range links {
		attrs := link.Attrs()
		if attrs.Name == exclude || attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("udp: list addresses of %s: %w", attrs.Name, err)
		}
		found = append(found, candidates(addresses, attrs.Index, uplinks[attrs.Index])...)
	}
	slices.SortStableFunc(found, candidate.compare)
	addrs := make([]netip.Addr, 0, MaxAddresses)
	for _, c := range found[:min(len(found), MaxAddresses)] {
		addrs = append(addrs, c.addr)
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
	if n := cmp.Compare(c.nth, other.nth); n != 0 {
		return n
	}
	if c.uplink != other.uplink {
		if c.uplink {
			return -1
		}
		return 1
	}
	return cmp.Compare(c.index, other.index)
}

// candidates are the usable ones among an interface's addresses.
func candidates(addresses []netlink.Addr, index int, uplink bool) []candidate {
	var found []candidate
	var seen [2]int // IPv4, IPv6
	for _, address := range addresses {
		addr, ok := netip.AddrFromSlice(address.IP)
		addr = addr.Unmap()
		if !ok || address.Flags&unusable&^secondary(addr) != 0 || !addr.IsGlobalUnicast() {
			continue
		}
		family := 0
		if addr.Is6() {
			family = 1
		}
		found = append(found, candidate{addr: addr, nth: seen[family], uplink: uplink, index: index})
		seen[family]++
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

// defaultLinks are the indices of the interfaces with a default route.
func defaultLinks() (map[int]bool, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("udp: list routes: %w", err)
	}
	links := make(map[int]bool)
	for _, route := range routes {
		if route.Dst == nil {
			links[route.LinkIndex] = true
			continue
		}
		if ones, _ := route.Dst.Mask.Size(); ones == 0 && route.Type == unix.RTN_UNICAST {
			links[route.LinkIndex] = true
		}
	}
	return links, nil
}
