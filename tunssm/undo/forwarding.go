package undo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"ssmnet/tunssm/kernel"
)

// A change of kind Forwarding is that of one interface, whatever that is called by now, for the family that is its name.
// The name has all=1 where all interfaces forwarded and this one did not. Where all have come to since, somebody has
// switched them on, and this one with them.

const amongAll = " all=1"

// Family is ipv4 or ipv6, of a change of kind Forwarding.
func (c Change) Family() string { return strings.TrimSuffix(c.Name, amongAll) }

// Forwarding makes an interface forward packets of the family, ipv4 or ipv6, on record.
func (j *Journal) Forwarding(l netlink.Link, family string) error {
	c := of(l, Forwarding, family, "", "1")
	all, err := forAll(family)
	if err != nil {
		return kernel.Wrap(err, "read the sysctl %s", kernel.Forwarding(family, "all"))
	}
	if all {
		c.Name += amongAll
	}
	name := kernel.Forwarding(family, c.Interface)
	if c.Was, err = currentForwarding(c); err != nil {
		return kernel.Wrap(err, "read the sysctl %s", name)
	}
	if c.Was == c.Now {
		return nil
	}
	if err := j.once(c); err != nil {
		return err
	}
	return kernel.Wrap(setForwarding(c, c.Now), "set the sysctl %s to %s", name, c.Now)
}

// forAll says whether all interfaces were made to forward.
func forAll(family string) (bool, error) {
	is, err := kernel.Sysctl(kernel.Forwarding(family, "all"))
	return is == "1", err
}

func checkForwarding(c Change) error {
	if family := c.Family(); family != "ipv4" && family != "ipv6" || c.Was != "0" || c.Now != "1" {
		return fmt.Errorf("%.40q from %.40q to %.40q is no forwarding", c.Name, c.Was, c.Now)
	}
	return checkInterface(c)
}

// forwardingOf is the sysctl of a change, by the present name of its interface.
func forwardingOf(c Change) (sysctl string, err error) {
	l, err := netlink.LinkByIndex(c.Index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return "", errGone
	}
	if err != nil {
		return "", err
	}
	return kernel.Forwarding(c.Family(), l.Attrs().Name), nil
}

func currentForwarding(c Change) (string, error) {
	name, err := forwardingOf(c)
	if err != nil {
		return "", err
	}
	is, err := kernel.Sysctl(name)
	if err != nil || is != "1" || strings.HasSuffix(c.Name, amongAll) {
		return is, orGone(err)
	}
	all, err := forAll(c.Family())
	if all {
		is = "1, as all interfaces"
	}
	return is, err
}

func setForwarding(c Change, value string) error {
	name, err := forwardingOf(c)
	if err != nil {
		return err
	}
	return orGone(kernel.SetSysctl(name, value))
}
