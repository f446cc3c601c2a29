package netns

import (
	"fmt"
	"strings"
	"testing"
)

// TestLanSpoofsGateway: a host behind a gateway that takes the gateway's own overlay address for its source gets nothing
// of what policy permits the gateway itself.
func TestLanSpoofsGateway(t *testing.T) {
	t.Parallel()
	_, a, gateway, lan := newGateway(t, nil, grant("h2", "h1", "icmp"), toLab("h1", "tcp/7000"))
	a.reaches(t, lan)
	spoofs(t, a, gateway, lan)
}

// TestLanSpoofsRouter: likewise where it is not the SSM that makes a host forward, but somebody else, while it runs.
func TestLanSpoofsRouter(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	n.KDC.Do(t, "init", "--address", "10.77.0.1")
	n.KDC.Serve(t)
	a, router := n.Hosts[0], n.Hosts[1]
	lan := n.lan(t, router, 7)
	for _, h := range n.Hosts {
		h.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, h))
	}
	n.KDC.ApplyText(t, `{"schema": "ssmnet.policy/v1", "grants": [`+grant("h2", "h1", "icmp")+`]}`)
	a.SSM(t, "up")
	router.SSM(t, "up")
	before := router.ruleset(t)
	for _, value := range []string{"1", "0"} {
		router.script(t, "echo "+value+" >/proc/sys/net/ipv4/ip_forward; echo "+value+" >/proc/sys/net/ipv6/conf/all/forwarding")
		if value == "1" {
			eventually(t, started, "the host's addresses are guarded", func() error {
				if rules := router.ruleset(t); !strings.Contains(rules, "ip6 saddr "+router.address(6)) {
					return fmt.Errorf("%s", rules)
				}
				return nil
			})
			spoofs(t, a, router, lan)
			continue
		}
		eventually(t, started, "the guard has gone", func() error {
			if rules := router.ruleset(t); rules != before {
				return fmt.Errorf("%s", rules)
			}
			return nil
		})
	}
}

// spoofs has lan send to a from the address of the host that it is behind, which may reach a itself.
func spoofs(t *testing.T, a, host, lan *Host) {
	t.Helper()
	for _, family := range []int{4, 6} {
		host.Run(t, "ping", "-c1", "-W5", a.address(family))
		before := a.echoes(t, family)
		lan.Run(t, "ip", "addr", "add", fmt.Sprint(host.address(family), "/", map[int]int{4: 32, 6: 128}[family]), "dev", "lo")
		if r := lan.Try(t, "ping", "-c3", "-i0.1", "-W1", "-I", host.address(family), a.address(family)); r.Code == 0 {
			t.Errorf("IPv%d: answered: %s", family, r)
		}
		host.Run(t, "ping", "-c1", "-W5", a.address(family)) // behind all of those
		if n := a.echoes(t, family) - before; n != 1 {
			t.Errorf("IPv%d: %d echoes have arrived, want the one of the host itself", family, n)
		}
	}
}

// echoes is how many echo requests a host has received.
func (h *Host) echoes(t *testing.T, family int) (n int) {
	t.Helper()
	command := `awk '/^Icmp:/ { if (!head) { for (i = 1; i <= NF; i++) if ($i == "InEchos") at = i; head = 1 } else print $at }' /proc/net/snmp`
	if family == 6 {
		command = `awk '$1 == "Icmp6InEchos" { print $2 }' /proc/net/snmp6`
	}
	if _, err := fmt.Sscan(strings.TrimSpace(h.Run(t, "sh", "-c", command)), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
