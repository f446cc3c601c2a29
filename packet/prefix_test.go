package packet

import (
	"net/netip"
	"testing"
)

func TestPrefixesCover(t *testing.T) {
	var list []netip.Prefix
	for _, p := range []string{"100.80.0.2/32", "fd00::2/128", "10.2.0.0/16"} {
		list = append(list, netip.MustParsePrefix(p))
	}
	for addr, want := range map[string]bool{
		"100.80.0.2": true, "10.2.255.1": true, "fd00::2": true, "100.80.0.3": false, "fd00::3": false,
		"::ffff:100.80.0.2": false,
	} {
		if got := Covers(list, netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
	if Covers(list, netip.Addr{}) || Covers(nil, list[0].Addr()) {
		t.Error("no address is covered, or by no prefix")
	}
}
