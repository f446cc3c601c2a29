package route

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"ssmnet/tunssm/kernel"

	"github.com/vishvananda/netlink"
)

// Ways is, of each subnet behind this host, the interfaces by which the host reaches it, in order; none where it has an
// empty list.
type Ways map[netip.Prefix][]string

// FindWays looks up the ways to subnets: the interfaces of the route that holds a subnet whole, unless that is the
// default route, and those of the routes to parts of it. The tunnel, which is ifname, is none of them.
//
// Since the routes to a subnet lead out where its hosts' packets come in, and the route to every peer into the tunnel, a
// strict reverse path filter (rp_filter) lets both through and is left alone.
func FindWays(ifname string, subnets []netip.Prefix) (Ways, error) {
	ways := Ways{}
	err := eachUnderlay(subnets, ifname, func(subnet netip.Prefix, host underlay) {
		ways[subnet] = host.ways(subnet.Masked())
	})
	if err != nil {
		return nil, err
	}
	return ways, nil
}

// ways are the interfaces that lead to the prefix, in order.
func (u underlay) ways(prefix netip.Prefix) []string {
	whole := 1 // and not the default route
	for _, r := range u.routes {
		if r.prefix.Bits() <= prefix.Bits() && r.prefix.Contains(prefix.Addr()) {
			whole = max(whole, r.prefix.Bits())
		}
	}
	var names []string
	for _, r := range u.routes {
		holds := r.prefix.Bits() == whole && r.prefix.Contains(prefix.Addr())
		part := r.prefix.Bits() > prefix.Bits() && prefix.Contains(r.prefix.Addr())
		if holds || part {
			names = append(names, r.ifname)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Interfaces are those of all ways of one family, in order.
func (w Ways) Interfaces(ipv4 bool) []string {
	var names []string
	for subnet, ways := range w {
		if subnet.Addr().Is4() == ipv4 {
			names = append(names, ways...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ErrGlobal: the kernel forwards IPv6 on all interfaces or none.
var ErrGlobal = errors.New("route: this kernel (before Linux 6.17) forwards IPv6 between all interfaces or none; they forward " +
	"now, and listen to router advertisements nevertheless where they did before")

// Forward makes the kernel forward between ifname and the ways, on record, and takes back what it had made for others.
// Forwarding is decided by the interface that a packet comes in by, so it is switched on for those and no others.
// ErrGlobal tells that all went well, but that for IPv6 that cannot be.
func (j *Journal) Forward(ifname string, ways Ways) error {
	type which struct {
		index  int
		family string
	}
	wanted := map[which]netlink.Link{}
	all := len(ways.Interfaces(false)) > 0 && !perInterface(ifname)
	var err error
	for _, family := range []string{"ipv4", "ipv6"} {
		lan := ways.Interfaces(family == "ipv4")
		if len(lan) == 0 || all && family == "ipv6" {
			continue
		}
		for _, name := range append(lan, ifname) {
			link, missing := kernel.Link(name)
			if missing != nil {
				err = errors.Join(err, missing)
				continue
			}
			wanted[which{link.Attrs().Index, family}] = link
		}
	}
	err = errors.Join(err, j.release(func(c change) bool {
		if c.Kind == "forwarding" {
			return wanted[which{c.Index, strings.TrimSuffix(c.Name, amongAll)}] == nil
		}
		return !all && c.Kind == "sysctl" && forwards(c.Name)
	}))
	for w, link := range wanted {
		err = errors.Join(err, j.switchOn(link, w.family))
	}
	if all {
		err = errors.Join(err, j.forwardAll())
	}
	if all && err == nil {
		err = ErrGlobal
	}
	return err
}

const conf6 = "ipv6/conf"

// forwards says whether a sysctl is one of those that forwardAll changes.
func forwards(name string) bool {
	for _, pattern := range []string{"ipv6/conf/*/forwarding", "ipv6/conf/*/accept_ra"} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// perInterface says whether the kernel forwards IPv6 by interface (Linux 6.17).
func perInterface(ifname string) bool {
	_, err := os.Stat(path.Join(kernel.Sysctls, conf6, ifname, "force_forwarding"))
	return err == nil
}

// forwardAll switches IPv6 forwarding on for all interfaces. That makes a host deaf to router advertisements where
// accept_ra is not 2, and, once it is switched off, switches it off for those that forwarded before: these are on record
// first, so that they get it back last.
func (j *Journal) forwardAll() error {
	const all = conf6 + "/all/forwarding"
	is, err := kernel.Sysctl(all)
	if err != nil || is == "1" {
		return kernel.Wrap(err, "read the sysctl %s", all)
	}
	entries, err := os.ReadDir(path.Join(kernel.Sysctls, conf6))
	if err != nil {
		return fmt.Errorf("route: %w", err)
	}
	for _, e := range entries {
		forwarding := change{Kind: "sysctl", Name: path.Join(conf6, e.Name(), "forwarding"), Was: "1", Now: "1"}
		if is, err := kernel.Sysctl(forwarding.Name); e.Name() != "all" && err == nil && is == "1" {
			if err := j.record(forwarding); err != nil {
				return err
			}
		}
	}
	for _, e := range entries {
		ra := path.Join(conf6, e.Name(), "accept_ra")
		if is, err := kernel.Sysctl(ra); e.Name() != "all" && err == nil && is == "1" {
			if err := j.Sysctl(ra, "2"); err != nil {
				return err
			}
		}
	}
	return j.Sysctl(all, "1")
}
