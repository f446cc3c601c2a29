package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"ssmnet/tunssm/kernel"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// foundRoutes are those of other programs that lead into the interface, but for what the kernel makes of its addresses
// by itself and what is more than one next hop of an ordinary route.
func foundRoutes(link netlink.Link) (list []netlink.Route, err error) {
	for _, family := range kernel.Families {
		routes, err := kernel.RoutesOf(link, family, netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
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
func routeOf(c change) (r netlink.Route, err error) {
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

func checkRoute(c change) error {
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

func currentRoute(c change) (string, error) {
	link, err := linkOf(c)
	if err != nil {
		return "", err
	}
	switch c.Name {
	case ours:
		list, err := List(c.Interface)
		if len(list) > 0 {
			return there, nil
		}
		return "", err
	case multicast:
		found, err := netlink.RouteListFiltered(netlink.FAMILY_V6, multicastRoute(link),
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		if len(found) > 0 {
			return there, nil
		}
		return "", err
	}
	routes, err := foundRoutes(link)
	for _, r := range routes {
		if name, ok := nameRoute(r); ok && name == c.Name {
			return there, nil
		}
	}
	return "", err
}

func setRoute(c change, value string) error {
	link, err := linkOf(c)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	switch c.Name {
	case ours:
		return dropOurs(c.Interface)
	case multicast:
		return kernel.RemoveRoute(multicastRoute(link))
	}
	r, err := routeOf(c)
	if err != nil {
		return err
	}
	if value == "" {
		return kernel.RemoveRoute(&r)
	}
	err = netlink.RouteAdd(&r)
	for _, moot := range []error{unix.EEXIST, unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTUNREACH} {
		if errors.Is(err, moot) {
			return nil // somebody else has one there now, or has taken away what it leads through
		}
	}
	return err
}

func multicastRoute(link netlink.Link) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: kernel.Network(netip.MustParsePrefix("ff00::/8")), Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_MULTICAST,
	}
}

func dropOurs(ifname string) error {
	list, err := List(ifname)
	for _, prefix := range list {
		err = errors.Join(err, Del(ifname, prefix))
	}
	return err
}
