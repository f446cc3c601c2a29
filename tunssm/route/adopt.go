package route

import (
	"net/netip"
	"slices"
	"strconv"

	"ssmnet/tunssm/kernel"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Persistent says whether ifname is a TUN that outlives whoever is attached to it, such as `ip tuntap add` makes, and
// that we can attach to.
func Persistent(ifname string) bool {
	link, err := kernel.Link(ifname)
	if err != nil {
		return false
	}
	tun, ok := link.(*netlink.Tuntap)
	return ok && tun.Mode == netlink.TUNTAP_MODE_TUN && !tun.NonPersist && tun.Flags&netlink.TUNTAP_MULTI_QUEUE == 0
}

// Adopt records an interface that is not ours as it is, before the SSM attaches to it and gives it what Configure does
// and routes: PutBack makes it that again. It then keeps the kernel from giving it addresses of its own making as it
// gets a carrier.
//
// Undone in reverse, the SSM's own goes first, then the attributes become what they were, and then the addresses and
// routes that were lost with them come back.
func (j *Journal) Adopt(ifname string, mtu int) error {
	link, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	var changes []change
	add := func(kind, name, was, now string) {
		changes = append(changes, change{kind, ifname, link.Attrs().Index, name, was, now})
	}
	routes, err := foundRoutes(link)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(routes) {
		if name, ok := nameRoute(r); ok {
			add("route", name, there, "")
		}
	}
	addresses, err := kernel.Addresses(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range slices.Backward(addresses) {
		if name, ok := nameAddress(a); ok {
			add("address", name, there, "")
		}
	}
	for _, to := range []struct {
		name  string
		value int
	}{
		{"up", 1}, {"addrgenmode", 1}, {"gso_ipv4", gsoMaxSize}, {"gso", gsoMaxSize}, // the latter sets the former, too
		{"txqueuelen", queueLength}, {"mtu", mtu}, {"tun", unix.IFF_NO_PI | unix.IFF_VNET_HDR},
	} {
		if was := attributes[to.name].get(link); was >= 0 && (was != to.value || to.name == "tun") {
			add("link", to.name, strconv.Itoa(was), strconv.Itoa(to.value))
		}
	}
	add("route", ours, "", there)
	add("route", multicast, "", there)
	if is, err := currentRoute(changes[len(changes)-1]); err != nil || is == there {
		changes = changes[:len(changes)-1] // the kernel's, and was there before
	}
	if err := j.record(changes...); err != nil {
		return err
	}
	return noAddressesOfItsOwn(link)
}

// Addresses records those that Configure is about to give an adopted interface.
func (j *Journal) Addresses(ifname string, wanted []netip.Prefix) error {
	link, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	for _, prefix := range wanted {
		c := change{"address", ifname, link.Attrs().Index, prefix.String(), "", there}
		is, err := currentAddress(c)
		if err != nil {
			return err
		}
		if is != "" {
			continue
		}
		if err := j.record(c); err != nil {
			return err
		}
	}
	return nil
}
