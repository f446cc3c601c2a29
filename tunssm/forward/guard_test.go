package forward

import (
	"net/netip"
	"strings"
	"testing"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/kernel"
	"ssmnet/tunssm/route"
)

// TestGuard: what is forwarded into the tunnel from the host's own IPv6 addresses is dropped, by a table of ours alone, which
// goes with the addresses or with the journal, and leaves the one that masquerades alone.
func TestGuard(t *testing.T) {
	space.Enter(t, space.TUN)
	before := space.NFT(t, "list", "ruleset")
	j, file, log := newJournal(t)
	if err := Masquerade(j, "tun0", route.Ways{netip.MustParsePrefix("192.168.7.0/24"): {"eth1"}}); err != nil {
		t.Fatal(err)
	}
	masquerading := space.NFT(t, "list", "ruleset")
	hosts := space.Prefixes("100.80.0.2/32", "fd5e::2/128", "fd5f::2/128")
	for range 2 {
		if err := Guard(j, "tun0", hosts); err != nil {
			t.Fatal(err)
		}
		got := space.NFT(t, "--stateless", "list", "table", "ip6", "ssmnet-tun0")
		for _, want := range []string{
			`type filter hook forward priority filter; policy accept;`,
			`oifname "tun0" ip6 saddr fd5e::2 counter drop comment "fd5e::2"`,
			`oifname "tun0" ip6 saddr fd5f::2 counter drop comment "fd5f::2"`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in %s", want, got)
			}
		}
		space.NFT(t, "flush table ip6 ssmnet-tun0")
	}
	if err := Guard(j, "tun0", hosts[:1]); err != nil || space.NFT(t, "list", "ruleset") != masquerading {
		t.Errorf("without IPv6: %v, %s", err, space.NFT(t, "list", "ruleset"))
	}
	if err := Guard(j, "tun0", hosts); err != nil {
		t.Fatal(err)
	}
	putsBack(t, again(file, log), 2)
	if got := space.NFT(t, "list", "ruleset"); got != before {
		t.Errorf("put back: %s", got)
	}
}

// TestIPv6: that the host forwards IPv6 is seen by whichever switch it was made to, but not by the one for interfaces to come.
func TestIPv6(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "eth1")
	for name, want := range map[string]bool{
		"ipv6/conf/all/forwarding": true, kernel.Forwarding("ipv6", "eth1"): true, kernel.Forwarding("ipv6", "default"): false,
	} {
		if IPv6() {
			t.Fatalf("before %s: it forwards", name)
		}
		space.SetSysctl(t, name, "1")
		if IPv6() != want {
			t.Errorf("%s: want %t", name, want)
		}
		space.SetSysctl(t, name, "0")
	}
}
