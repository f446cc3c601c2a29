package undo

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
)

// A change of kind nft is a table of ours. Whatever somebody has since put into it, it goes as a whole: none but us has
// reason to.

const tablePrefix = "ssmnet-"

// tableFamilies are those of our tables, as nft(8) names them in front of a table's name.
var tableFamilies = map[nftables.TableFamily]string{nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv6: "ip6"}

// Table is the one of a family that is ours on behalf of an interface.
func Table(family nftables.TableFamily, ifname string) *nftables.Table {
	return &nftables.Table{Family: family, Name: tablePrefix + ifname}
}

// Claim records a table of ours that is about to be made, and says whether it is there, having been made before.
// Errors: ErrTaken, ErrNoNftables.
func (j *Journal) Claim(table *nftables.Table) (exists bool, err error) {
	c := changeOf(table)
	is, err := currentTable(c)
	if errors.Is(err, errGone) {
		return false, ErrNoNftables
	}
	if err != nil {
		return false, kernel.Wrap(err, "look for the nftables table %s", c.Name)
	}
	if is == there && !j.has(c) {
		return false, fmt.Errorf("%w: there is an nftables table %s that this SSM has not made: 'nft delete table %s'",
			ErrTaken, c.Name, c.Name)
	}
	return is == there, j.once(c)
}

// Disclaim deletes the table, if it is on record.
func (j *Journal) Disclaim(table *nftables.Table) error {
	ours := changeOf(table)
	return j.Release(func(c Change) bool { return c == ours })
}

func changeOf(table *nftables.Table) Change {
	return Change{Kind: nft, Name: tableFamilies[table.Family] + " " + table.Name, Now: there}
}

// tableOf is the table that a change names; without a family it is none of ours.
func tableOf(c Change) *nftables.Table {
	of, name, _ := strings.Cut(c.Name, " ")
	table := &nftables.Table{Name: name}
	for family, its := range tableFamilies {
		if its == of {
			table.Family = family
		}
	}
	return table
}

func checkTable(c Change) error {
	table := tableOf(c)
	name, ok := strings.CutPrefix(table.Name, tablePrefix)
	if !ok || table.Family == 0 || name == "" || len(name) >= unix.IFNAMSIZ || c.Was != "" || c.Interface != "" || c.Index != 0 {
		return fmt.Errorf("%.40q is no nftables table of ours", c.Name)
	}
	return checkThere(c)
}

func currentTable(c Change) (string, error) {
	var conn nftables.Conn
	table := tableOf(c)
	tables, err := conn.ListTablesOfFamily(table.Family)
	if errors.Is(err, unix.EINVAL) { // no nftables in this kernel
		return "", errGone
	}
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == table.Name }) {
		return there, nil
	}
	return "", nil
}

func setTable(c Change, _ string) error {
	var conn nftables.Conn
	conn.DelTable(tableOf(c))
	err := conn.Flush()
	if errors.Is(err, unix.ENOENT) {
		return errGone
	}
	return err
}
