package undo

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
)

// TestEveryKind makes a change of every kind, of every attribute and of every route with a name of its own: all are on record
// with the value that they had, and have it again after they were put back.
func TestEveryKind(t *testing.T) {
	space.Enter(t, space.TUN)
	for _, line := range []string{"tuntap add tun8 mode tun", "tuntap add tun9 mode tun", "link set tun9 addrgenmode random",
		"addr add 10.9.0.1/24 dev tun9", "link set tun9 up", "route add 10.8.0.0/16 dev tun9 metric 6"} {
		space.IP(t, line)
	}
	j, path, log := newJournal(t)
	if err := netlink.LinkSetGSOIPv4MaxSize(space.Link(t, "tun9"), 40000); err != nil { // which GSO sets, too
		t.Fatal(err)
	}
	tun8, tun9 := space.Link(t, "tun8"), space.Link(t, "tun9")
	_, err := j.Claim(Table(nftables.TableFamilyINet, "tun9"))
	err = errors.Join(err,
		j.Sysctl(redirects, "0"), j.Preserve(forwarding, space.Sysctl(t, forwarding)), j.Forwarding(tun9, "ipv4"),
		j.Interface(tun8, map[string]int{Up: 1}),
		j.Interface(tun9, map[string]int{
			TUN: tunFeatures, MTU: 1300, TxQueue: 77, GSOSegments: 64, GSO: 50000, GSOIPv4: 50000, AddrGenMode: 1,
		}),
		j.Addresses("tun9", space.Prefixes("100.80.0.2/32")),
	)
	if err != nil {
		t.Fatal(err)
	}
	_, changes := read(t, path)
	var recorded []string
	for _, c := range changes {
		recorded = append(recorded, c.Kind, c.Kind+" "+c.Name)
		if c.Name != multicast {
			change(t, c)
		}
	}
	for _, c := range changes {
		if c.Name == multicast { // an interface that is up can have it
			change(t, c)
		}
		if is, err := kinds[c.Kind].current(c); is != c.Now || err != nil {
			t.Errorf("%s is %q, %v, want %q", c, is, err, c.Now)
		}
	}
	want := slices.AppendSeq([]string{"route " + ours, "route " + multicast}, maps.Keys(kinds))
	for _, a := range attributes {
		want = append(want, "link "+a.name)
	}
	for _, name := range want {
		if !slices.Contains(recorded, name) {
			t.Errorf("nothing is on record of %s", name)
		}
	}
	if _, err := again(path, log).PutBack(); err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if is, err := kinds[c.Kind].current(c); is != c.Was || err != nil {
			t.Errorf("%s was put back to %q, %v, want %q", c, is, err, c.Was)
		}
	}
}

// change makes a change that is on record, where it was not made with the record.
func change(t *testing.T, c Change) {
	t.Helper()
	into := " dev " + c.Interface + " metric 10" + strings.TrimPrefix(c.Interface, "tun")
	switch {
	case c.Kind == Sysctl || c.Kind == Forwarding:
	case c.Kind == nft:
		space.NFT(t, "add table "+c.Name)
	case c.Name == ours:
		space.IP(t, "route add 10.20.0.0/16 proto 76"+into)
	case c.Name == multicast:
		space.IP(t, "-6 route add multicast ff00::/8 table local"+into)
	default:
		if err := kinds[c.Kind].set(c, c.Now); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
	}
}

// TestForwardingMalformed: a record names an interface, a family and that forwarding was off.
func TestForwardingMalformed(t *testing.T) {
	good := Change{Kind: "forwarding", Interface: "eth1", Index: 2, Name: "ipv4 all=1", Was: "0", Now: "1"}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Change){
		"no interface": func(c *Change) { c.Interface = "" }, "no index": func(c *Change) { c.Index = 0 },
		"no family": func(c *Change) { c.Name = "ipv5" }, "more": func(c *Change) { c.Name += amongAll },
		"a path": func(c *Change) { c.Name = "../ipv4" }, "was on": func(c *Change) { c.Was = "1" }, "off": func(c *Change) { c.Now = "0" },
	} {
		c := good
		if spoil(&c); c.check() == nil {
			t.Errorf("%s: %+v is taken", name, c)
		}
	}
	for _, name := range []string{"ip6 ssmnet-tun0", "inet ssmnet-tun0"} {
		if err := (Change{Kind: "nft", Name: name, Now: there}).check(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"ip ssmnet-tun0", "ssmnet-tun0", "ip6 filter", "ip6 ssmnet-", " ssmnet-tun0"} {
		if (Change{Kind: "nft", Name: name, Now: there}).check() == nil {
			t.Errorf("table %q is taken", name)
		}
	}
}
