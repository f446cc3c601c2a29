package route

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// nft runs nft(8).
func nft(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

// TestMasquerade: a table of ours alone comes, changes, is mended and goes; those of others stay as they are.
func TestMasquerade(t *testing.T) {
	enterNamespace(t)
	nft(t, "add table inet ssmnet; add chain inet ssmnet postrouting { type nat hook postrouting priority srcnat; }")
	before := nft(t, "list", "ruleset")
	j, file, log := newJournal(t)
	four, six := netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("fd19:7::/64")
	if err := j.Masquerade("tun0", nil); err != nil || nft(t, "list", "ruleset") != before {
		t.Fatalf("without ways: %v, %s", err, nft(t, "list", "ruleset"))
	}
	both := Ways{four: {"eth1", "eth2"}, six: {"eth1"}}
	const table = `
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		iifname "tun0" oifname "eth1" ip daddr 192.168.7.0/24 masquerade comment "eth1 192.168.7.0/24"
		iifname "tun0" oifname "eth2" ip daddr 192.168.7.0/24 masquerade comment "eth2 192.168.7.0/24"
		iifname "tun0" oifname "eth1" ip6 daddr fd19:7::/64 masquerade comment "eth1 fd19:7::/64"
	}`
	for name, meddle := range map[string]func(){
		"first": func() {}, "flushed": func() { nft(t, "flush table inet ssmnet-tun0") },
		"deleted": func() { nft(t, "delete table inet ssmnet-tun0") },
	} {
		if err := j.Masquerade("tun0", both); err != nil {
			t.Fatal(err)
		}
		meddle()
		if err := j.Masquerade("tun0", both); err != nil {
			t.Fatal(err)
		}
		if got := nft(t, "list", "table", "inet", "ssmnet-tun0"); !strings.Contains(got, strings.TrimSpace(table)) {
			t.Errorf("%s: %s", name, got)
		}
	}
	if err := j.Masquerade("tun0", Ways{four: nil}); err != nil {
		t.Fatal(err)
	}
	if got := nft(t, "list", "ruleset"); got != before {
		t.Errorf("taken back: %s", got)
	}
	if err := j.Masquerade("tun0", both); err != nil {
		t.Fatal(err)
	}
	nft(t, "add rule inet ssmnet-tun0 postrouting counter") // somebody's
	if err := again(file, log).Masquerade("tun0", both); !errors.Is(err, ErrConflict) {
		t.Errorf("a table that is not on record: %v", err)
	}
	putsBack(t, again(file, log), 1)
	if got := nft(t, "list", "ruleset"); got != before {
		t.Errorf("put back: %s", got)
	}
}
