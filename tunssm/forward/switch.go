// Package forward makes the host pass packets between the tunnel and the subnets behind it, on record, and says what may
// keep it from that.
package forward

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/vishvananda/netlink"

	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/undo"
)

// Switch makes the kernel forward between ifname and the ways, and takes back what it had made for others.
// Forwarding is decided by the interface that a packet comes in by, so it is switched on for those and no others.
// ErrGlobal tells that all went well, but that for IPv6 that cannot be.
func Switch(j *undo.Journal, ifname string, ways route.Ways) error {
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
	err = errors.Join(err, j.Release(func(c undo.Change) bool {
		if c.Kind == undo.Forwarding {
			return wanted[which{c.Index, c.Family()}] == nil
		}
		return !all && c.Kind == undo.Sysctl && forwards(c.Name)
	}))
	for w, link := range wanted {
		err = errors.Join(err, j.Forwarding(link, w.family))
	}
	if all {
		err = errors.Join(err, switchAll(j))
	}
	if all && err == nil {
		err = ErrGlobal
	}
	return err
}

const conf6 = "ipv6/conf"

// forwards says whether a sysctl is one of those that switchAll changes.
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

// switchAll switches IPv6 forwarding on for all interfaces. That makes a host deaf to router advertisements where
// accept_ra is not 2, and, once it is switched off, switches it off for those that forwarded before: these are on record
// first, so that they get it back last.
func switchAll(j *undo.Journal) error {
	const all = conf6 + "/all/forwarding"
	is, err := kernel.Sysctl(all)
	if err != nil || is == "1" {
		return kernel.Wrap(err, "read the sysctl %s", all)
	}
	entries, err := os.ReadDir(path.Join(kernel.Sysctls, conf6))
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	for _, e := range entries {
		name := path.Join(conf6, e.Name(), "forwarding")
		if is, err := kernel.Sysctl(name); e.Name() != "all" && err == nil && is == "1" {
			if err := j.Preserve(name, is); err != nil {
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
