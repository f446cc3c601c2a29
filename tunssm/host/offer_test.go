package host

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"ssmnet/tunssm"
	"ssmnet/tunssm/route"
)

// TestOffer: what the operator has decided, and what the host is connected to, decide what is installed; each time anew.
func TestOffer(t *testing.T) {
	openTUN(t)
	r := &Host{name: "tun0", mtu: 1420, accept: true, log: slog.New(slog.DiscardHandler)}
	if err := r.Configure([]netip.Addr{netip.MustParseAddr("100.80.0.2")}, nil); err != nil {
		t.Fatal(err)
	}
	a, b, c := netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("10.30.0.0/16"), netip.MustParsePrefix("10.40.0.0/16")
	peer := netip.MustParseAddr("10.40.0.9")
	offered := []netip.Prefix{a, b, c}
	wants := func(what string, avoid []netip.Addr, refused map[netip.Prefix]error) {
		t.Helper()
		var installed []netip.Prefix
		got := r.Offer(offered, avoid)
		for _, prefix := range offered {
			if !errors.Is(got[prefix], refused[prefix]) || got[prefix] != nil && refused[prefix] == nil {
				t.Errorf("%s: %s: %v, want %v", what, prefix, got[prefix], refused[prefix])
			}
			if refused[prefix] == nil {
				installed = append(installed, prefix)
			}
		}
		if there, err := route.List("tun0"); err != nil || !slices.Equal(there, installed) {
			t.Errorf("%s: %v is installed, %v, want %v", what, there, err, installed)
		}
	}
	type why = map[netip.Prefix]error
	wants("at first", nil, nil)
	leave := connect(t, "br9", "10.30.7.1/24")
	wants("connected to one", nil, why{b: route.ErrConflict})
	wants("a peer is inside another", []netip.Addr{peer}, why{b: route.ErrConflict, c: route.ErrConflict})
	r.Decide(Decisions{a: Declined, b: Forced, c: Accepted})
	wants("decided", []netip.Addr{peer}, why{a: tunssm.ErrDeclined, c: route.ErrConflict})
	r.Decide(Decisions{b: Accepted})
	wants("force taken back", nil, why{b: route.ErrConflict})
	leave()
	wants("healed", nil, nil)
	r.accept = false
	wants("of those accepted alone", nil, why{a: tunssm.ErrDeclined, c: tunssm.ErrDeclined})
	offered = offered[:1]
	wants("no longer offered", nil, why{a: tunssm.ErrDeclined})
}
