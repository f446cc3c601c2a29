package undo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// ours names all routes of ours on an interface, multicast the route that the kernel gives it with its first carrier,
// or an IPv6 address while it is up.
const (
	ours      = "ours"
	multicast = "multicast"
)

// foundRoutes are those of other programs that lead into the interface, but for what the kernel makes of its addresses
// by itself and what is more than one next hop of an ordinary route.
func foundRoutes(l netlink.Link) (list []netlink.Route, err error) {
	for _, family := range kernel.Families {
		routes, err := kernel.RoutesOf(l, family, netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Type == unix.RTN_UNICAST && r.Protocol != unix.RTPROT_KERNEL && r.Protocol != kernel.Protocol &&
				r.Table != unix.RT_TABLE_LOCAL && len(r.MultiPath) == 0 {
				list = append(list, r)
			}
		}
	}
	return list, nil
}

func nameRoute(r netlink.Route) (string, bool) {
	prefix, ok := kernel.Prefix(r.Dst)
	if !ok {
		return "", false
	}
	return describe(prefix, map[string]int{
		"table": r.Table, "metric": r.Priority, "protocol": int(r.Protocol), "scope": int(r.Scope), "tos": r.Tos,
		"onlink": r.Flags & unix.RTNH_F_ONLINK, "mtu": r.MTU, "advmss": r.AdvMSS,
	}, map[string]string{"via": ipText(r.Gw), "src": ipText(r.Src)}), true
}

func ipText(ip net.IP) string {
	if ip == nil {
		return ""
	}
	return ip.String()
}

// routeOf is the one that a change names.
func routeOf(c Change) (r netlink.Route, err error) {
	var protocol, scope int
	var via, src string
	prefix, err := described(c.Name, map[string]*int{
		"table": &r.Table, "metric": &r.Priority, "protocol": &protocol, "scope": &scope, "tos": &r.Tos,
		"onlink": &r.Flags, "mtu": &r.MTU, "advmss": &r.AdvMSS,
	}, map[string]*string{"via": &via, "src": &src})
	if err != nil {
		return r, err
	}
	r.Dst, r.LinkIndex, r.Type = kernel.Network(prefix), c.Index, unix.RTN_UNICAST
	r.Protocol, r.Scope = netlink.RouteProtocol(protocol), netlink.Scope(scope)
	r.Flags &= unix.RTNH_F_ONLINK
	for text, to := range map[string]*net.IP{via: &r.Gw, src: &r.Src} {
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return r, err
		}
		*to = addr.AsSlice()
	}
	return r, nil
}

func checkRoute(c Change) error {
	if c.Name == ours || c.Name == multicast {
		if c.Was != "" {
			return fmt.Errorf("%s: what is recorded of it is that it was not there", c.Name)
		}
		return errors.Join(checkThere(c), checkInterface(c))
	}
	if _, err := routeOf(c); err != nil {
		return err
	}
	return errors.Join(checkThere(c), checkInterface(c))
}

func currentRoute(c Change) (string, error) {
	l, err := linkOf(c)
	if err != nil {
		return "", err
	}
	list, err := named(l, c.Name)
	if len(list) > 0 {
		return there, nil
	}
	return "", err
}

func setRoute(c Change, value string) error {
	l, err := linkOf(c)
	if err != nil {
		return err
	}
	if value == "" {
		list, err := named(l, c.Name)
		for _, r := range list {
			err = errors.Join(err, kernel.RemoveRoute(&r))
		}
		return err
	}
	r, err := routeOf(c)
	if err != nil {
		return err
	}
	err = netlink.RouteAdd(&r)
	for _, moot := range []error{unix.EEXIST, unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTUNREACH} {
		if errors.Is(err, moot) {
			return nil // somebody else has one there now, or has taken away what it leads through
		}
	}
	return err
}

// named are the routes of that name.
func named(l netlink.Link, name string) (list []netlink.Route, err error) {
	switch name {
	case ours:
		for _, family := range kernel.Families {
			of, e := kernel.RoutesOf(l, family, netlink.Route{Protocol: kernel.Protocol}, netlink.RT_FILTER_PROTOCOL)
			list, err = append(list, of...), errors.Join(err, e)
		}
		return list, err
	case multicast:
		all := netlink.Route{
			Dst: kernel.Network(netip.MustParsePrefix("ff00::/8")), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_MULTICAST,
		}
		return kernel.RoutesOf(l, netlink.FAMILY_V6, all, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	}
	list, err = foundRoutes(l)
	return slices.DeleteFunc(list, func(r netlink.Route) bool {
		its, ok := nameRoute(r)
		return !ok || its != name
	}), err
}
