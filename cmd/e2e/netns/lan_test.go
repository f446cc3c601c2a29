package netns

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// lan puts a network behind a host, with one host in it, which leads all the rest by the gateway:
//
//	gateway                                      lanN
//	eth1  192.168.N.1/24, fd19:N::1/64  ------  eth0  192.168.N.2/24, fd19:N::2/64
//
// Neither card sums for the kernel, so that a sum which is left open shows.
func (n *Net) lan(t *testing.T, gateway *Host, number int) *Host {
	t.Helper()
	h := n.host(fmt.Sprint("lan", number))
	h.V4, h.V6 = netip.MustParseAddr(fmt.Sprintf("192.168.%d.2", number)), netip.MustParseAddr(fmt.Sprintf("fd19:%d::2", number))
	lines := strings.NewReplacer("GATEWAY", gateway.space, "LAN", h.space, "#", fmt.Sprint(number)).Replace(`
		ip netns add LAN
		ip netns exec LAN sh -c 'cd /proc/sys/net/ipv6/conf; echo 0 >all/accept_dad; echo 0 >default/accept_dad'
		ip -n LAN link set lo up
		ip -n GATEWAY link add eth1 type veth peer name eth0 netns LAN
		ip -n LAN addr add 192.168.#.2/24 dev eth0
		ip -n LAN addr add fd19:#::2/64 dev eth0 nodad
		ip -n LAN link set eth0 up
		ip -n GATEWAY addr add 192.168.#.1/24 dev eth1
		ip -n GATEWAY addr add fd19:#::1/64 dev eth1 nodad
		ip -n GATEWAY link set eth1 up
		ip -n LAN route add default via 192.168.#.1
		ip -n LAN -6 route add default via fd19:#::1
		ip netns exec GATEWAY ethtool -K eth1 tx off
		ip netns exec LAN ethtool -K eth0 tx off`)
	if out, err := exec.Command("sh", "-euc", lines).CombinedOutput(); err != nil {
		t.Fatalf("the network behind %s: %v\n%s", gateway.Name, err, out)
	}
	return h
}

// script runs lines of shell on a host, each of which must succeed.
func (h *Host) script(t *testing.T, lines string) {
	t.Helper()
	h.Run(t, "sh", "-euc", lines)
}

// subnets are the flags that name the network behind a gateway to `kdc peer`.
func (h *Host) subnets(sign string) []string {
	four, six := h.subnet(4), h.subnet(6)
	return []string{"--subnet", sign + four, "--subnet", sign + six}
}

// subnet of a host of a lan, of family 4 or 6.
func (h *Host) subnet(family int) string {
	addr, bits := h.V4, 24
	if family == 6 {
		addr, bits = h.V6, 64
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}

// newGateway is two hosts, the second of which leads to lan 7; both are up. The grants may name the lan as net:lab and,
// of IPv6, net:lab6.
func newGateway(t *testing.T, flags []string, grants ...string) (n *Net, a, gateway, lan *Host) {
	t.Helper()
	n = newNet(t, 2)
	n.KDC.Do(t, "init", "--address", "10.77.0.1")
	n.KDC.Serve(t)
	a, gateway = n.Hosts[0], n.Hosts[1]
	lan = n.lan(t, gateway, 7)
	a.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, a))
	gateway.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, gateway, lan.subnets("")...))
	n.KDC.ApplyText(t, `{"schema": "ssmnet.policy/v1", "nets": {"lab": "`+lan.subnet(4)+`", "lab6": "`+lan.subnet(6)+`"}, "grants": [`+
		strings.Join(grants, ", ")+`]}`)
	a.SSM(t, "up")
	gateway.SSM(t, append([]string{"up"}, flags...)...)
	return n, a, gateway, lan
}

// toLab is a grant from a host to lan 7, of both families.
func toLab(src string, allow ...string) string {
	return fmt.Sprintf(`{"id": "to-lab-%s", "src": ["%s"], "dst": ["net:lab", "net:lab6"], "allow": ["%s"]}`,
		plain(src), src, strings.Join(allow, `", "`))
}

// fromLab is one from lan 7.
func fromLab(dst string, allow ...string) string {
	return fmt.Sprintf(`{"id": "from-lab-%s", "src": ["net:lab", "net:lab6"], "dst": ["%s"], "allow": ["%s"]}`,
		plain(dst), dst, strings.Join(allow, `", "`))
}

// reaches waits until a host has a route to the lan into its tunnel.
func (h *Host) reaches(t *testing.T, lan *Host) {
	t.Helper()
	for _, family := range []int{4, 6} {
		eventually(t, started, h.Name+" has a route to "+lan.Name, func() error {
			if out := h.Run(t, "ip", "route", "get", lan.address(family)); !strings.Contains(out, "dev tun0") {
				return fmt.Errorf("it is %s", out)
			}
			return nil
		})
	}
}
