package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestPathMTU: whatever the underlay between two hosts carries, and whether or not its router says so, TCP and UDP get
// through the tunnel whole, in both families, over both.
//
//	h1  10.78.0.11, fd78::11   ===   router, which carries packets of so many bytes   ===   h2 on the bridge
func TestPathMTU(t *testing.T) {
	n := newNet(t, 2)
	r := addRouter(t, n)
	a, b := n.Hosts[0], n.Hosts[1]
	r.Run(t, "ip", "addr", "add", "10.77.0.11/24", "dev", "bridge")
	r.Run(t, "ip", "addr", "add", "fd77::11/64", "dev", "bridge", "nodad")
	for _, h := range []*Host{b, n.KDC.Host} {
		h.Run(t, "ip", "route", "add", "10.78.0.0/24", "via", "10.77.0.11")
		h.Run(t, "ip", "route", "add", "fd78::/64", "via", "fd77::11")
	}
	n.start(t, "10.77.0.1", grant("tag:all", "tag:all", "*"))
	for _, underlay := range []int{4, 6} {
		if underlay == 6 {
			for _, h := range []*Host{a, b} { // the KDC is reached by IPv4 still: it names candidates of both families
				h.Run(t, "nft", "add table ip no { chain frames { type filter hook output priority 0; udp dport 7601 drop; } ; }")
			}
		}
		for _, mtu := range []int{1500, 1460, 1400, 1280} {
			for _, filtered := range []bool{false, true} {
				t.Run(fmt.Sprintf("over IPv%d of %d bytes, ICMP filtered %v", underlay, mtu, filtered), func(t *testing.T) {
					r.narrow(t, mtu, filtered)
					for _, h := range n.Hosts {
						h.SSM(t, "down")
						h.Run(t, "ip", "-4", "route", "flush", "cache")
						h.Run(t, "ip", "-6", "route", "flush", "cache")
						h.SSM(t, "up")
					}
					for _, family := range []int{4, 6} {
						n.KDC.Cold(t)
						transferBothWays(t, a, b, family)
						for _, h := range n.Hosts { // or the datagrams that find it out are lost
							h.knowsPath(t, underlay, mtu)
						}
						datagrams(t, a, b, family)
					}
				})
			}
		}
	}
}

// narrow has the router carry packets of so many bytes at most, and say so or not.
func (r *router) narrow(t *testing.T, mtu int, filtered bool) {
	t.Helper()
	for _, route := range []string{"10.77.0.0/24 dev bridge", "10.78.0.0/24 dev host", "fd77::/64 dev bridge metric 256", "fd78::/64 dev host metric 256"} {
		args := append([]string{"ip", "route", "replace"}, strings.Fields(route)...)
		r.Run(t, append(args, "mtu", "lock", fmt.Sprint(mtu))...)
	}
	rules := "flush ruleset\n"
	if filtered {
		rules += `table inet quiet {
	chain out {
		type filter hook output priority 0
		icmp type destination-unreachable drop
		icmpv6 type packet-too-big drop
	}
}
`
	}
	name := filepath.Join(r.net.dir, "quiet.nft")
	write(t, name, rules, 0o600)
	r.Run(t, "nft", "-f", name)
}

// knowsPath waits until the host has found what the path to its only peer carries, as nearly as it looks for.
func (h *Host) knowsPath(t *testing.T, family, mtu int) {
	t.Helper()
	const overhead4, overhead6, grain, least, most = 60, 80, 8, 1280, 1420
	fits := mtu - overhead4
	if family == 6 {
		fits = mtu - overhead6
	}
	want := min(max(fits, least), most)
	eventually(t, started, h.Name+" knows its path", func() error {
		for _, s := range h.Status(t).Sessions {
			if s.State != "sending" {
				continue
			}
			if s.Endpoint.Addr().Is4() != (family == 4) || s.Fragments != (fits < least) || s.MTU > want || s.MTU <= want-grain {
				return fmt.Errorf("to %s packets of %d bytes, in fragments %v; want %d", s.Endpoint, s.MTU, s.Fragments, want)
			}
			return nil
		}
		return errors.New("no session")
	})
}
