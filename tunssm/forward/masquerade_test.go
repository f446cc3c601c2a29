package forward

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"ssmnet/cmd/e2e/space"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/undo"
)

// TestMasquerade: a table of ours alone comes, changes, is mended and goes; those of others stay as they are.
func TestMasquerade(t *testing.T) {
	space.Enter(t, space.TUN)
	space.NFT(t, "add table inet ssmnet; add chain inet ssmnet postrouting { type nat hook postrouting priority srcnat; }")
	before := space.NFT(t, "list", "ruleset")
	j, file, log := newJournal(t)
	four, six := netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd19:7::/64")
	if err := Masquerade(j, "tun0", nil); err != nil || space.NFT(t, "list", "ruleset") != before {
		t.Fatalf("without ways: %v, %s", err, space.NFT(t, "list", "ruleset"))
	}
	both := route.Ways{four: {"eth1", "eth2"}, six: {"eth1"}}
	const table = `
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "tun0" oifname "eth1" ip daddr 192.168.7.0/24 masquerade comment "eth1 192.168.7.0/24"
		iifname "tun0" oifname "eth2" ip daddr 192.168.7.0/24 masquerade comment "eth2 192.168.7.0/24"
		iifname "tun0" oifname "eth1" ip6 daddr fd19:7::/64 masquerade comment "eth1 fd19:7::/64"
	}`
	for name, meddle := range map[string]func(){
		"first": func() {}, "flushed": func() { space.NFT(t, "flush table inet ssmnet-tun0") },
		"deleted": func() { space.NFT(t, "delete table inet ssmnet-tun0") },
	} {
		if err := Masquerade(j, "tun0", both); err != nil {
			t.Fatal(err)
		}
		meddle()
		if err := Masquerade(j, "tun0", both); err != nil {
			t.Fatal(err)
		}
		if got := space.NFT(t, "list", "table", "inet", "ssmnet-tun0"); !strings.Contains(got, strings.TrimSpace(table)) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if err := Masquerade(j, "tun0", route.Ways{four: nil}); err != nil {
		t.Fatal(err)
	}
	if got := space.NFT(t, "list", "ruleset"); got != before {
		t.Errorf("taken back: %s", got)
	}
	if err := Masquerade(j, "tun0", both); err != nil {
		t.Fatal(err)
	}
	space.NFT(t, "add rule inet ssmnet-tun0 postrouting counter") // somebody's
	if err := Masquerade(again(file, log), "tun0", both); !errors.Is(err, undo.ErrTaken) {
		t.Errorf("a table that is not on record: %v", err)
	}
	putsBack(t, again(file, log), 1)
	if got := space.NFT(t, "list", "ruleset"); got != before {
		t.Errorf("put back: %s", got)
	}
}
