package netns

import (
	"fmt"
	"strings"
	"testing"
)

// TestLanSpoofsGateway: a host behind a gateway that takes the gateway's own overlay address for its source gets nothing
// of what policy permits the gateway itself.
func TestLanSpoofsGateway(t *testing.T) {
	_, a, gateway, lan := newGateway(t, nil, grant("h2", "h1", "icmp"), toLab("h1", "tcp/7000"))
	a.reaches(t, lan)
	for _, family := range []int{4, 6} {
		gateway.Run(t, "ping", "-c1", "-W5", a.address(family)) // which it may
		before := a.echoes(t, family)
		lan.Run(t, "ip", "addr", "add", fmt.Sprint(gateway.address(family), "/", map[int]int{4: 32, 6: 128}[family]), "dev", "lo")
		if r := lan.Try(t, "ping", "-c3", "-i0.1", "-W1", "-I", gateway.address(family), a.address(family)); r.Code == 0 {
			t.Errorf("IPv%d: answered: %s", family, r)
		}
		gateway.Run(t, "ping", "-c1", "-W5", a.address(family)) // behind all of those
		if n := a.echoes(t, family) - before; n != 1 {
			t.Errorf("IPv%d: %d echoes have arrived, want the gateway's own", family, n)
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
