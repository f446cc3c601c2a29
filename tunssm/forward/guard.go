package forward

import (
	"errors"
	"net/netip"
	"os"
	"path"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/undo"
)

// Guard keeps hosts behind this one from speaking with its own addresses in the tunnel, which is ifname: what is forwarded
// into it from one of them is dropped, in a table of ours. The kernel does that by itself in IPv4 alone (martians).
// Without IPv6 addresses there is no table.
//
//	table ip6 ssmnet-tun0 {
//		chain forward {
//			type filter hook forward priority filter; policy accept;
//			oifname "tun0" ip6 saddr fd5e::2 drop comment "fd5e::2"
//		}
//	}
func Guard(j *undo.Journal, ifname string, own []netip.Prefix) error {
	var rules []*nftables.Rule
	for _, host := range own {
		addr := host.Addr()
		if addr.Is4() {
			continue
		}
		const source = 8 // of an IPv6 header (RFC 8200, section 3)
		rules = append(rules, &nftables.Rule{
			Exprs: append(matchName(expr.MetaKeyOIFNAME, ifname),
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: 16},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
				&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop},
			),
			UserData: userdata.AppendString(nil, userdata.TypeComment, addr.String()),
		})
	}
	err := keep(j, &nftables.Chain{
		Table: undo.Table(nftables.TableFamilyIPv6, ifname), Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	}, rules)
	if errors.Is(err, undo.ErrNoNftables) {
		return ErrUnguarded
	}
	return err
}

// IPv6 says whether the host forwards IPv6 by any interface, whoever made it.
func IPv6() bool {
	if all, err := kernel.Sysctl(conf6 + "/all/forwarding"); err != nil || all == "1" {
		return err == nil
	}
	entries, _ := os.ReadDir(path.Join(kernel.Sysctls, conf6))
	for _, e := range entries {
		is, err := kernel.Sysctl(kernel.Forwarding("ipv6", e.Name()))
		if err == nil && is == "1" && e.Name() != "default" {
			return true
		}
	}
	return false
}
