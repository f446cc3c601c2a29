package forward

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/undo"
)

// postrouting is the one chain of the table.
const postrouting = "postrouting"

// Masquerade makes packets that come out of the tunnel, which is ifname, appear to their subnets as the host's own, so
// that the subnets need no route back. It does so in a table of its own, and leaves all others alone; without
// ways there is no table. Packets that go into the tunnel keep their source: peers check it.
//
//	table inet ssmnet-tun0 {
//		chain postrouting {
//			type nat hook postrouting priority srcnat; policy accept;
//			iifname "tun0" oifname "eth1" ip daddr 192.168.7.0/24 masquerade comment "eth1 192.168.7.0/24"
//		}
//	}
func Masquerade(j *undo.Journal, ifname string, ways route.Ways) error {
	return keep(j, &nftables.Chain{
		Table: undo.Table(nftables.TableFamilyINet, ifname), Name: postrouting, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}, masquerading(ifname, ways))
}

// keep makes a chain, the only one of its table, be there with these rules and no others; without rules there is no table.
func keep(j *undo.Journal, chain *nftables.Chain, rules []*nftables.Rule) error {
	if len(rules) == 0 {
		return j.Disclaim(chain.Table)
	}
	exists, err := j.Claim(chain.Table)
	if err != nil || exists && sameRules(chain, rules) {
		return err
	}
	return kernel.Wrap(replaceTable(chain, rules, exists), "set up the nftables table %s", chain.Table.Name)
}

// replaceTable makes the chain's table anew with the rules, at one stroke.
func replaceTable(chain *nftables.Chain, rules []*nftables.Rule, exists bool) error {
	var nft nftables.Conn
	if exists {
		nft.DelTable(chain.Table)
	}
	nft.AddTable(chain.Table)
	nft.AddChain(chain)
	for _, r := range rules {
		r.Table, r.Chain = chain.Table, chain
		nft.AddRule(r)
	}
	return nft.Flush()
}

// sameRules says whether the chain has these rules, told by their comments, and no others: somebody may have flushed it.
func sameRules(chain *nftables.Chain, rules []*nftables.Rule) bool {
	var nft nftables.Conn
	present, err := nft.GetRules(chain.Table, chain)
	return err == nil && slices.EqualFunc(present, rules, func(a, b *nftables.Rule) bool {
		return bytes.Equal(a.UserData, b.UserData)
	})
}

// masquerading are the rules, in order.
func masquerading(ifname string, ways route.Ways) (rules []*nftables.Rule) {
	subnets := slices.SortedFunc(maps.Keys(ways), func(p, q netip.Prefix) int {
		return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
	})
	for _, subnet := range subnets {
		for _, lan := range ways[subnet] {
			rules = append(rules, &nftables.Rule{
				Exprs: slices.Concat(
					matchName(expr.MetaKeyIIFNAME, ifname), matchName(expr.MetaKeyOIFNAME, lan), matchDestination(subnet),
					[]expr.Any{&expr.Masq{}},
				),
				UserData: userdata.AppendString(nil, userdata.TypeComment, lan+" "+subnet.String()),
			})
		}
	}
	return rules
}

// matchName is iifname or oifname.
func matchName(key expr.MetaKey, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data},
	}
}

// matchDestination is meta nfproto and ip daddr or ip6 daddr.
func matchDestination(subnet netip.Prefix) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV6), uint32(24) // RFC 8200, section 3
	if subnet.Addr().Is4() {
		family, offset = unix.NFPROTO_IPV4, 16 // RFC 791, section 3.1
	}
	network := kernel.Network(subnet)
	length := uint32(len(network.IP))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: network.Mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network.IP},
	}
}
