package undo

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"

	"ssmnet/tunssm/kernel"
)

// Interface records an interface that was there before as it is, which is about to get these values of its attributes,
// addresses and routes of ours.
//
// Undone in reverse, our own routes go first, and then the attributes become what they were. Then the addresses that were
// lost come back. Then goes the route that the kernel gives an interface with its first carrier, which undoing the
// attributes may have been, or with an IPv6 address, and then the routes that were lost come back.
func (j *Journal) Interface(l netlink.Link, becomes map[string]int) error {
	var changes []Change
	routes, err := foundRoutes(l)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(routes) {
		if name, ok := nameRoute(r); ok {
			changes = append(changes, of(l, route, name, there, ""))
		}
	}
	if c := of(l, route, multicast, "", there); !exists(c) { // else it is the kernel's, and was there before
		changes = append(changes, c)
	}
	addresses, err := kernel.Addresses(l, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range slices.Backward(addresses) {
		if name, ok := nameAddress(a); ok {
			changes = append(changes, of(l, address, name, there, ""))
		}
	}
	for _, a := range slices.Backward(attributes) {
		now, changed := becomes[a.name]
		was := a.get(l)
		if changed && was >= 0 && (was != now || a.name == TUN) { // which has more to it than its flags
			changes = append(changes, of(l, link, a.name, strconv.Itoa(was), strconv.Itoa(now)))
		}
	}
	changes = append(changes, of(l, route, ours, "", there))
	return j.record(changes...)
}

// exists says that something is there, as far as can be known.
func exists(c Change) bool {
	is, err := kinds[c.Kind].current(c)
	return err != nil || is == there
}

// Addresses records those that the interface is about to get and has not.
func (j *Journal) Addresses(ifname string, wanted []netip.Prefix) error {
	l, err := kernel.Link(ifname)
	if err != nil {
		return err
	}
	for _, prefix := range wanted {
		c := of(l, address, prefix.String(), "", there)
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
