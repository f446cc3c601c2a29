package route

import (
	"errors"
	"fmt"
	"strings"

	"ssmnet/tunssm/kernel"

	"github.com/vishvananda/netlink"
)

// A change of kind forwarding is that of one interface, whatever that is called by now, for the family that is its name.
// The name has all=1 where all interfaces forwarded and this one did not. Where all have come to since, somebody has
// switched them on, and this one with them.

const amongAll = " all=1"

// switchOn makes an interface forward, on record.
func (j *Journal) switchOn(link netlink.Link, family string) error {
	c := change{Kind: "forwarding", Interface: link.Attrs().Name, Index: link.Attrs().Index, Name: family, Now: "1"}
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

func checkForwarding(c change) error {
	if family := strings.TrimSuffix(c.Name, amongAll); family != "ipv4" && family != "ipv6" || c.Was != "0" || c.Now != "1" {
		return fmt.Errorf("%.40q from %.40q to %.40q is no forwarding", c.Name, c.Was, c.Now)
	}
	return checkInterface(c)
}

// forwardingOf is the sysctl of a change, by the present name of its interface.
func forwardingOf(c change) (sysctl, family string, err error) {
	family = strings.TrimSuffix(c.Name, amongAll)
	link, err := netlink.LinkByIndex(c.Index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return "", "", errGone
	}
	if err != nil {
		return "", "", err
	}
	return kernel.Forwarding(family, link.Attrs().Name), family, nil
}

func currentForwarding(c change) (string, error) {
	name, family, err := forwardingOf(c)
	if err != nil {
		return "", err
	}
	is, err := kernel.Sysctl(name)
	if err != nil || is != "1" || strings.HasSuffix(c.Name, amongAll) {
		return is, err
	}
	all, err := forAll(family)
	if all {
		is = "1, as all interfaces"
	}
	return is, err
}

func setForwarding(c change, value string) error {
	name, _, err := forwardingOf(c)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return kernel.SetSysctl(name, value)
}
