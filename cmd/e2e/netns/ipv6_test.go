package netns

import "testing"

// TestIPv6Underlay: nothing needs IPv4 outside.
func TestIPv6Underlay(t *testing.T) {
	n := newNet(t, 2)
	for _, h := range append(n.Hosts, n.KDC.Host) {
		h.Run(t, "ip", "-4", "addr", "flush", "dev", "eth0")
	}
	n.start(t, "fd77::1", grant("h1", "h2", "icmp", "tcp/7000"))
	a, b := n.Hosts[0], n.Hosts[1]
	for _, family := range []int{4, 6} {
		n.KDC.Cold(t)
		a.Run(t, "ping", "-c3", "-i0.05", "-W2", b.address(family))
		transferBothWays(t, a, b, family)
	}
	st := a.Status(t)
	if st.KDCs[0].Address != "[fd77::1]:7600" || st.Sessions[0].Endpoint.String() != "[fd77::12]:7601" {
		t.Errorf("KDC %s, peer at %s", st.KDCs[0].Address, st.Sessions[0].Endpoint)
	}
}
