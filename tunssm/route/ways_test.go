package route

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"ssmnet/cmd/e2e/space"
)

// TestFindWays: the interface of a subnet is that of the route that holds it, and of those to parts of it; neither the
// default route's nor the tunnel's own.
func TestFindWays(t *testing.T) {
	space.Enter(t, space.TUN)
	openTUN(t, "tun0")
	tun := space.Up(t, "tun0", "100.80.0.1/32")
	eth := space.Bridge(t, "eth1", "192.168.7.1/24", "fd19:7::1/64")
	other := space.Bridge(t, "eth2", "192.168.8.1/24")
	space.Route(t, netlink.Route{LinkIndex: other.Attrs().Index, Gw: []byte{192, 168, 8, 2}}, "0.0.0.0/0")
	space.Route(t, netlink.Route{LinkIndex: eth.Attrs().Index, Gw: []byte{192, 168, 7, 2}}, "10.20.0.0/16")
	space.Route(t, netlink.Route{LinkIndex: other.Attrs().Index, Gw: []byte{192, 168, 8, 2}}, "10.20.5.0/24")
	space.Route(t, netlink.Route{LinkIndex: tun.Attrs().Index, Scope: netlink.SCOPE_LINK}, "10.30.0.0/16")
	space.Route(t, netlink.Route{Dst: nil, MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: eth.Attrs().Index, Gw: []byte{192, 168, 7, 2}}, {LinkIndex: other.Attrs().Index, Gw: []byte{192, 168, 8, 2}},
	}}, "10.40.0.0/16")
	for subnet, want := range map[string]string{
		"192.168.7.0/24": "eth1", "192.168.7.128/25": "eth1", "fd19:7::/64": "eth1", "192.168.0.0/16": "eth1 eth2",
		"10.20.0.0/16": "eth1 eth2", "10.20.5.0/25": "eth2", "10.20.6.0/24": "eth1", "10.0.0.0/8": "eth1 eth2",
		"10.40.0.0/16": "eth1 eth2", "10.30.0.0/16": "", "172.16.0.0/12": "", "fd20::/48": "",
	} {
		ways, err := FindWays("tun0", space.Prefixes(subnet))
		if got := strings.Join(ways[netip.MustParsePrefix(subnet)], " "); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", subnet, got, err, want)
		}
	}
}
