package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// A change of kind nft is a table of ours. Whatever somebody has since put into it, it goes as a whole: none but us has
// reason to.

const tablePrefix = "ssmnet-"

// tableFamilies are those of our tables, as nft(8) names them in front of a table's name.
var tableFamilies = map[nftables.TableFamily]string{nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv6: "ip6"}

func tableChange(table *nftables.Table) change {
	return change{Kind: "nft", Name: tableFamilies[table.Family] + " " + table.Name, Now: there}
}

// tableOf is the table that a change names; without a family it is none of ours.
func tableOf(c change) *nftables.Table {
	of, name, _ := strings.Cut(c.Name, " ")
	table := &nftables.Table{Name: name}
	for family, its := range tableFamilies {
		if its == of {
			table.Family = family
		}
	}
	return table
}

func checkTable(c change) error {
	table := tableOf(c)
	name, ok := strings.CutPrefix(table.Name, tablePrefix)
	if !ok || table.Family == 0 || name == "" || len(name) >= unix.IFNAMSIZ || c.Was != "" || c.Interface != "" || c.Index != 0 {
		return fmt.Errorf("%.40q is no nftables table of ours", c.Name)
	}
	return checkThere(c)
}

func currentTable(c change) (string, error) {
	var nft nftables.Conn
	table := tableOf(c)
	tables, err := nft.ListTablesOfFamily(table.Family)
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

func setTable(c change, _ string) error {
	var nft nftables.Conn
	nft.DelTable(tableOf(c))
	err := nft.Flush()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
