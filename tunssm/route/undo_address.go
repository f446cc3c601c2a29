package route

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ssmnet/tunssm/kernel"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// there is the value of an address or a route that exists. What it is like is in its name: the prefix, and whatever is
// not zero as key=value.
const there = "there"

// ours names all routes of ours on an interface, multicast the route that the kernel gives it with its first carrier.
const (
	ours      = "ours"
	multicast = "multicast"
)

// describe makes a name; parse takes it apart.
func describe(prefix netip.Prefix, numbers map[string]int, texts map[string]string) string {
	name := prefix.String()
	for _, key := range slices.Sorted(maps.Keys(numbers)) {
		if numbers[key] != 0 {
			name += fmt.Sprintf(" %s=%d", key, numbers[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		if texts[key] != "" {
			name += fmt.Sprintf(" %s=%s", key, texts[key])
		}
	}
	return name
}

// described is what a name says, with the keys that numbers and texts have.
func described(name string, numbers map[string]*int, texts map[string]*string) (netip.Prefix, error) {
	fields := strings.Fields(name)
	if len(fields) == 0 {
		return netip.Prefix{}, errors.New("no name")
	}
	prefix, err := netip.ParsePrefix(fields[0])
	if err != nil {
		return prefix, err
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		number, text := numbers[key], texts[key]
		switch {
		case number != nil:
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return prefix, err
			}
			*number = int(n)
		case text != nil && value != "":
			*text = value
		default:
			return prefix, fmt.Errorf("%.40q is not known of a name", f)
		}
	}
	return prefix, nil
}

func nameAddress(a netlink.Addr) (string, bool) {
	prefix, ok := kernel.AddressPrefix(a.IPNet)
	if !ok {
		return "", false
	}
	texts := map[string]string{"label": a.Label}
	if strings.ContainsAny(a.Label, " \t") {
		return "", false
	}
	if peer, ok := kernel.Prefix(a.Peer); ok && peer != prefix.Masked() {
		texts["peer"] = peer.String()
	}
	if a.Broadcast != nil {
		texts["broadcast"] = a.Broadcast.String()
	}
	return describe(prefix, map[string]int{"scope": a.Scope, "noprefixroute": a.Flags & unix.IFA_F_NOPREFIXROUTE}, texts), true
}

// address is the one that a change names.
func address(c change) (*netlink.Addr, netip.Prefix, error) {
	a, peer, broadcast := &netlink.Addr{}, "", ""
	prefix, err := described(c.Name, map[string]*int{"scope": &a.Scope, "noprefixroute": &a.Flags},
		map[string]*string{"label": &a.Label, "peer": &peer, "broadcast": &broadcast})
	if err != nil {
		return nil, prefix, err
	}
	a.IPNet = kernel.Network(prefix)
	a.Flags &= unix.IFA_F_NOPREFIXROUTE
	if prefix.Addr().Is6() {
		a.Flags |= unix.IFA_F_NODAD
	}
	if peer != "" {
		p, err := netip.ParsePrefix(peer)
		if err != nil {
			return nil, prefix, err
		}
		a.Peer = kernel.Network(p)
	}
	if broadcast != "" {
		b, err := netip.ParseAddr(broadcast)
		if err != nil {
			return nil, prefix, err
		}
		a.Broadcast = b.AsSlice()
	} else if prefix.Addr().Is4() {
		a.Broadcast = net.IPv4zero // or netlink would make one up
	}
	return a, prefix, nil
}

func checkAddress(c change) error {
	if _, _, err := address(c); err != nil {
		return err
	}
	return errors.Join(checkThere(c), checkInterface(c))
}

func checkThere(c change) error {
	if (c.Was == there) == (c.Now == there) || c.Was+c.Now != there {
		return fmt.Errorf("%.40q and %.40q, want %q and nothing", c.Was, c.Now, there)
	}
	return nil
}

func currentAddress(c change) (string, error) {
	_, prefix, err := address(c)
	if err != nil {
		return "", err
	}
	link, err := linkOf(c)
	if err != nil {
		return "", err
	}
	list, err := kernel.Addresses(link, netlink.FAMILY_ALL)
	for _, a := range list {
		if p, ok := kernel.AddressPrefix(a.IPNet); ok && p == prefix {
			return there, nil
		}
	}
	return "", err
}

func setAddress(c change, value string) error {
	a, _, err := address(c)
	if err != nil {
		return err
	}
	link, err := linkOf(c)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if value == "" {
		return removeAddresses(link, []netlink.Addr{*a})
	}
	return netlink.AddrReplace(link, a)
}
