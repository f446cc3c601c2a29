package forward

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"ssmnet/tunssm/kernel"
)

// Firewalls warns of what would drop packets of one family that are forwarded between ifname and subnets: base chains at
// the forward hook whose policy is to drop, those that iptables-nft makes among them. Where a rule of such a chain's table
// accepts what comes in or goes out by ifname, somebody has seen to it. Rules that drop are not understood. Each warning
// is one line with the rule to add. Of the tables of legacy iptables it is seen only that they are there.
func Firewalls(ifname string, ipv4 bool) ([]string, error) {
	var nft nftables.Conn
	chains, err := nft.ListChains()
	if err != nil {
		return nil, kernel.Wrap(err, "list the chains of nftables")
	}
	var warnings []string
	for _, c := range chains {
		if dropsForwarded(c, ipv4) && !mentions(&nft, c.Table, chains, ifname) {
			warnings = append(warnings, dropWarning(c, ifname))
		}
	}
	return append(warnings, legacyWarning(ifname, ipv4)...), nil
}

func dropsForwarded(c *nftables.Chain, ipv4 bool) bool {
	family := nftables.TableFamilyIPv6
	if ipv4 {
		family = nftables.TableFamilyIPv4
	}
	return c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil &&
		*c.Policy == nftables.ChainPolicyDrop && (c.Table.Family == family || c.Table.Family == nftables.TableFamilyINet)
}

// mentions says whether a rule of the table, in whichever chain, accepts packets of the interface.
func mentions(nft *nftables.Conn, table *nftables.Table, chains []*nftables.Chain, ifname string) bool {
	return slices.ContainsFunc(chains, func(c *nftables.Chain) bool {
		if *c.Table != *table {
			return false
		}
		rules, err := nft.GetRules(table, c)
		return err == nil && slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return accepts(r, ifname) })
	})
}

// accepts says whether the rule compares an interface's name with ifname, and accepts.
func accepts(r *nftables.Rule, ifname string) bool {
	named, accepted, name := false, false, false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			name = e.Key == expr.MetaKeyIIFNAME || e.Key == expr.MetaKeyOIFNAME
		case *expr.Cmp:
			named = named || name && e.Op == expr.CmpOpEq && string(bytes.TrimRight(e.Data, "\x00")) == ifname
		case *expr.Verdict:
			accepted = e.Kind == expr.VerdictAccept
		}
	}
	return named && accepted
}

func dropWarning(c *nftables.Chain, ifname string) string {
	family := map[nftables.TableFamily]string{
		nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	}[c.Table.Family]
	return fmt.Sprintf("the firewall drops what is forwarded (nftables: policy drop of chain %s in table %s %s): "+
		"'nft insert rule %[2]s %[3]s %[1]s iifname %[4]s accept' and the same with oifname",
		c.Name, family, c.Table.Name, ifname)
}

// legacyWarning: what is in those tables only their own programs can read.
func legacyWarning(ifname string, ipv4 bool) []string {
	file, program := "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy"
	if ipv4 {
		file, program = "/proc/thread-self/net/ip_tables_names", "iptables-legacy"
	}
	names, err := os.ReadFile(file)
	if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
		return nil
	}
	return []string{fmt.Sprintf("a firewall may drop what is forwarded (%s has a table filter, which is not seen into): if so, "+
		"'%[1]s -I FORWARD -i %[2]s -j ACCEPT' and the same with -o", program, ifname)}
}
