package undo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// Change is one line of the file: something that had the value Was, and was given the value Now. Where there was or is
// nothing, the value is empty.
type Change struct {
	Kind      string `json:"kind"`
	Interface string `json:"interface,omitempty"`
	Index     int    `json:"index,omitempty"` // the interface's, so that a later one of that name is left alone
	Name      string `json:"name"`
	Was       string `json:"was"`
	Now       string `json:"now"`
}

func (c Change) String() string {
	return strings.Join(strings.Fields(c.Kind+" "+c.Interface+" "+c.Name), " ")
}

// The kinds of things that can be put back, and what the name of one is.
const (
	Sysctl     = "sysctl"     // its path below /proc/sys/net
	Forwarding = "forwarding" // of an interface: the family
	link       = "link"       // of an interface: one of the attributes
	address    = "address"    // of an interface: its prefix, and what else it is like
	route      = "route"      // into an interface: its prefix, and what else it is like; or ours, or multicast
	nft        = "nft"        // the family and the name of a table of ours
)

// kinds are how each is put back. The order is the reverse of that in which the changes were made, and so recorded.
var kinds = map[string]kind{
	Sysctl:     {checkSysctl, currentSysctl, setSysctl},
	Forwarding: {checkForwarding, currentForwarding, setForwarding},
	link:       {checkLink, currentLink, setLink},
	address:    {checkAddress, currentAddress, setAddress},
	route:      {checkRoute, currentRoute, setRoute},
	nft:        {checkTable, currentTable, setTable},
}

type kind struct {
	// check refuses what is not as we record it.
	check func(c Change) error
	// current is the value as it is now, empty where there is none. errGone: there is nothing that could have one.
	current func(c Change) (string, error)
	// set gives it the value. errGone: what could have had it is no longer there.
	set func(c Change, value string) error
}

var errGone = errors.New("gone")

// there is the value of an address, a route or a table that exists.
const there = "there"

// undo gives what was changed the value that it had, unless it has that.
func (c Change) undo() (done bool, err error) {
	k := kinds[c.Kind]
	value, err := k.current(c)
	if err == nil && value == c.Was {
		return false, nil
	}
	if err == nil {
		err = k.set(c, c.Was)
	}
	if errors.Is(err, errGone) {
		return false, nil
	}
	return err == nil, err
}

func (c Change) check() error {
	k, known := kinds[c.Kind]
	if !known {
		return fmt.Errorf("malformed: no such kind %.40q", c.Kind)
	}
	for _, s := range []string{c.Interface, c.Name, c.Was, c.Now} {
		if len(s) > maxField || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' }) {
			return fmt.Errorf("malformed: %.40q is no name or value", s)
		}
	}
	if err := k.check(c); err != nil {
		return fmt.Errorf("malformed: %w", err)
	}
	return nil
}

// checkThere is of kinds that exist or do not.
func checkThere(c Change) error {
	if (c.Was == there) == (c.Now == there) || c.Was+c.Now != there {
		return fmt.Errorf("%.40q and %.40q, want %q and nothing", c.Was, c.Now, there)
	}
	return nil
}

// checkInterface is of kinds that are an interface's.
func checkInterface(c Change) error {
	if c.Interface == "" || len(c.Interface) >= unix.IFNAMSIZ || c.Index <= 0 {
		return fmt.Errorf("%.40q, %d is no interface", c.Interface, c.Index)
	}
	return nil
}

// linkOf is the interface of the change.
func linkOf(c Change) (netlink.Link, error) {
	found, err := kernel.Link(c.Interface)
	if errors.Is(err, kernel.ErrNoInterface) || err == nil && found.Attrs().Index != c.Index {
		return nil, errGone
	}
	return found, err
}

// of is a change of something that an interface has.
func of(l netlink.Link, kind, name, was, now string) Change {
	return Change{kind, l.Attrs().Name, l.Attrs().Index, name, was, now}
}
