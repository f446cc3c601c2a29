package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

const (
	// MinMTU is the least the interface may have: below it the kernel takes IPv6 away (RFC 8200, section 5).
	MinMTU = 1280
	// queueLength is how many packets or super-packets wait in the device for outbound. The kernel's default
	// of 500 is 30 MB of super-packets, half a second at 500 Mb/s.
	queueLength = 256
	// usableWithin is far more than the kernel needs to complete an address without duplicate detection.
	usableWithin = 2 * time.Second
)

// Configure gives the interface its MTU and exactly the given addresses, and brings it up. A prefix shorter than its
// address also routes that prefix into the interface. Configuring again changes what differs; the kernel may drop
// routes with the addresses it removes, so where addresses changed, Add ours again.
//
// The order matters: with address generation off before the interface comes up it never has a link-local address, and
// the kernel never sends anything of its own into the tunnel (router solicitations, multicast reports). IPv6 addresses
// skip duplicate detection, and all are usable when Configure returns. Where the kernel cannot do what merely saves
// work (super-packet sizes, queue length) Configure goes on. Errors: ErrNoIPv6 where an address is of the family that the
// host has switched off; the interface is then to be configured without.
func Configure(ifname string, addresses []netip.Prefix, mtu int) error {
	if mtu < MinMTU {
		return fmt.Errorf("route: MTU %d of %s is below %d, the least that carries IPv6", mtu, ifname, MinMTU)
	}
	link, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	if err := noAddressesOfItsOwn(link); err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return kernel.Wrap(err, "set the MTU of %s to %d", ifname, mtu)
	}
	_ = netlink.LinkSetTxQLen(link, queueLength)
	setGSO(link, mtu)
	if err := setAddresses(link, addresses); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return kernel.Wrap(err, "bring %s up", ifname)
	}
	return awaitLocal(ifname, addresses)
}

// noAddressesOfItsOwn keeps the kernel from making a link-local address.
func noAddressesOfItsOwn(link netlink.Link) error {
	err := netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return kernel.Wrap(err, "switch off address generation on %s", link.Attrs().Name)
}

// awaitLocal waits until the kernel takes packets for the addresses. It completes IPv6 addresses in a work queue of its
// own, a little after the call that adds them; what arrived in between would be lost.
func awaitLocal(ifname string, addresses []netip.Prefix) error {
	deadline := time.Now().Add(usableWithin)
	for _, prefix := range addresses {
		for {
			r, err := routeTo(prefix.Addr())
			if err == nil && r.Type == unix.RTN_LOCAL {
				break
			}
			if err != nil && !errors.Is(err, ErrUnreachable) {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("route: address %s of %s is not usable after %v", prefix.Addr(), ifname, usableWithin)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// setAddresses makes wanted the interface's addresses. The kernel knows an IPv6 address by its bytes alone, so one
// whose prefix length changes goes before it comes. Of an IPv4 network it may remove all addresses with the first, so
// those wanted are added once more at the end.
func setAddresses(link netlink.Link, wanted []netip.Prefix) error {
	present, err := kernel.Addresses(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	keep := make(map[netip.Prefix]bool, len(wanted))
	stays := make(map[netip.Addr]bool, len(wanted))
	for _, prefix := range wanted {
		keep[prefix], stays[prefix.Addr()] = true, true
	}
	var resized, others []netlink.Addr
	for _, address := range present {
		prefix, ok := kernel.AddressPrefix(address.IPNet)
		switch {
		case ok && keep[prefix]:
		case ok && stays[prefix.Addr()]:
			resized = append(resized, address)
		default:
			others = append(others, address)
		}
	}
	if err := removeAddresses(link, resized); err != nil {
		return err
	}
	if err := addAddresses(link, wanted); err != nil {
		return err
	}
	if err := removeAddresses(link, others); err != nil || len(others) == 0 {
		return err
	}
	return addAddresses(link, wanted)
}

// addAddresses adds what is not there yet.
func addAddresses(link netlink.Link, wanted []netip.Prefix) error {
	for _, prefix := range wanted {
		address := &netlink.Addr{IPNet: kernel.Network(prefix)}
		if prefix.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		err := netlink.AddrReplace(link, address)
		if switchedOff(prefix, err) {
			return fmt.Errorf("%w: cannot add %s to %s", ErrNoIPv6, prefix, link.Attrs().Name)
		}
		if err != nil {
			return kernel.Wrap(err, "add address %s to %s", prefix, link.Attrs().Name)
		}
	}
	return nil
}

// switchedOff says that err is what the kernel has against prefix where IPv6 is disabled by a sysctl, or not there at all.
func switchedOff(prefix netip.Prefix, err error) bool {
	return prefix.Addr().Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP))
}

func removeAddresses(link netlink.Link, unwanted []netlink.Addr) error {
	for _, address := range unwanted {
		if err := kernel.RemoveAddress(link, address); err != nil {
			return err
		}
	}
	return nil
}

// Intact says whether the interface still has what Configure and Add gave it: nil, ErrDown where it is down, or ErrLost
// with what is missing. The kernel takes routes away from an interface that goes down, and IPv6 addresses.
func Intact(ifname string, addresses, routes []netip.Prefix) error {
	link, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return downError(ifname)
	}
	list, err := kernel.Addresses(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	var present []netip.Prefix
	for _, address := range list {
		if prefix, ok := kernel.AddressPrefix(address.IPNet); ok {
			present = append(present, prefix)
		}
	}
	for _, prefix := range addresses {
		if !slices.Contains(present, prefix) {
			return lostError(ifname, "address", prefix)
		}
	}
	present, err = List(ifname)
	if err != nil {
		return err
	}
	for _, prefix := range routes {
		if !slices.Contains(present, prefix.Masked()) {
			return lostError(ifname, "route", prefix)
		}
	}
	return nil
}
