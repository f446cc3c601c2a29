package undo

import (
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

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
	return describe(prefix, map[string]int{
		"scope": a.Scope, "noprefixroute": a.Flags & unix.IFA_F_NOPREFIXROUTE, "nodad": a.Flags & unix.IFA_F_NODAD,
	}, texts), true
}

// addressOf is the one that a change names.
func addressOf(c Change) (*netlink.Addr, netip.Prefix, error) {
	a, peer, broadcast := &netlink.Addr{}, "", ""
	var noPrefixRoute, noDAD int
	prefix, err := described(c.Name,
		map[string]*int{"scope": &a.Scope, "noprefixroute": &noPrefixRoute, "nodad": &noDAD},
		map[string]*string{"label": &a.Label, "peer": &peer, "broadcast": &broadcast})
	if err != nil {
		return nil, prefix, err
	}
	a.IPNet = kernel.Network(prefix)
	a.Flags = noPrefixRoute&unix.IFA_F_NOPREFIXROUTE | noDAD&unix.IFA_F_NODAD
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

func checkAddress(c Change) error {
	if _, _, err := addressOf(c); err != nil {
		return err
	}
	return errors.Join(checkThere(c), checkInterface(c))
}

func currentAddress(c Change) (string, error) {
	_, prefix, err := addressOf(c)
	if err != nil {
		return "", err
	}
	l, err := linkOf(c)
	if err != nil {
		return "", err
	}
	list, err := kernel.Addresses(l, netlink.FAMILY_ALL)
	for _, a := range list {
		if p, ok := kernel.AddressPrefix(a.IPNet); ok && p == prefix {
			return there, nil
		}
	}
	return "", err
}

func setAddress(c Change, value string) error {
	a, _, err := addressOf(c)
	if err != nil {
		return err
	}
	l, err := linkOf(c)
	if err != nil {
		return err
	}
	if value == "" {
		return kernel.RemoveAddress(l, *a)
	}
	return netlink.AddrReplace(l, a)
}
