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

const tablePrefix = "inet ssmnet-" // of the name in the journal, which is as nft(8) takes it

func tableChange(table *nftables.Table) change {
	return change{Kind: "nft", Name: "inet " + table.Name, Now: there}
}

func checkTable(c change) error {
	name, ok := strings.CutPrefix(c.Name, tablePrefix)
	if !ok || name == "" || len(name) >= unix.IFNAMSIZ || c.Was != "" || c.Interface != "" || c.Index != 0 {
		return fmt.Errorf("%.40q is no nftables table of ours", c.Name)
	}
	return checkThere(c)
}

func currentTable(c change) (string, error) {
	var nft nftables.Conn
	tables, err := nft.ListTablesOfFamily(nftables.TableFamilyINet)
	if errors.Is(err, unix.EINVAL) { // no nftables in this kernel
		return "", errGone
	}
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(tables, func(t *nftables.Table) bool { return "inet "+t.Name == c.Name }) {
		return there, nil
	}
	return "", nil
}

func setTable(c change, _ string) error {
	var nft nftables.Conn
	nft.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: strings.TrimPrefix(c.Name, "inet ")})
	err := nft.Flush()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
