package netns

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// changeWithin is how long `kdc peer set --subnet` may take to be in force at live SSMs. They are told at once, or with the
// next Pong, 15 s later.
const changeWithin = 5 * time.Second

// TestMasquerade: without a route back a subnet answers where the gateway masquerades, and nowhere else; what
// somebody flushes comes back, as does forwarding, and nothing of it is left at the end or after kill -9.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	_, a, gateway, lan := newGateway(t, nil, toLab("h1", "tcp/7000", "icmp"))
	for _, family := range []string{"-4", "-6"} {
		lan.Run(t, "ip", family, "route", "del", "default")
	}
	a.reaches(t, lan)
	if r := a.Try(t, "ping", "-c1", "-W1", lan.address(4)); r.Code == 0 {
		t.Errorf("without a route back, unmasked: %s", r)
	}
	gateway.SSM(t, "down")
	gateway.killAll(t)
	gateway.Run(t, "nft", "add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; policy accept; }")
	before := gateway.everything(t) + gateway.ruleset(t)
	// All of it takes one capability.
	gateway.Run(t, "setpriv", "--bounding-set", "-all,+net_admin", program("ssm"), "--dir", gateway.dir, "up", "--masquerade")
	for _, family := range []int{4, 6} {
		a.Run(t, "ping", "-c2", "-i0.05", "-W5", lan.address(family))
		transferBothWays(t, a, lan, family)
	}
	gateway.script(t, "echo 0 >/proc/sys/net/ipv4/conf/eth1/forwarding") // as another SSM at its end
	eventually(t, started, "eth1 forwards again", func() error {
		if on := gateway.Run(t, "cat", "/proc/sys/net/ipv4/conf/eth1/forwarding"); on != "1\n" {
			return fmt.Errorf("it has %q", on)
		}
		return nil
	})
	gateway.Run(t, "nft", "delete", "table", "inet", "ssmnet-tun0")
	eventually(t, started, "the table is back", func() error {
		if out := gateway.ruleset(t); !strings.Contains(out, `iifname "tun0" oifname "eth1" ip daddr 192.168.7.0/24 masquerade`) {
			return fmt.Errorf("the rules are %s", out)
		}
		return nil
	})
	gateway.SSM(t, "down")
	gateway.killAll(t)
	same(t, "down", before, gateway.everything(t)+gateway.ruleset(t))
	gateway.SSM(t, "up", "--masquerade")
	gateway.Run(t, "nft", "add rule inet ssmnet-tun0 postrouting counter")
	gateway.killAll(t)
	succeeds(t, gateway.TrySSM(t, "down"), "put back")
	same(t, "kill -9 and down", before, gateway.everything(t)+gateway.ruleset(t))
}

// TestSubnetSet: a subnet that a live gateway gains is reached, and one that it loses is not, both ways, within a second;
// what else the pair has goes on without a loss.
func TestSubnetSet(t *testing.T) {
	t.Parallel()
	n, a, gateway, lan := newGateway(t, nil, grant("h1", "h2", "udp/7000"), toLab("h1", "udp/7001", "tcp/7002"))
	a.reaches(t, lan)
	stays, goes := startFlow(t, a, gateway, 7000), startFlow(t, a, lan, 7001)
	for range times(2, 20) {
		began := time.Now()
		n.KDC.Do(t, append([]string{"peer", "set", gateway.Name}, lan.subnets("-")...)...)
		ended := goes.cut(t).Sub(began)
		if ended > changeWithin {
			t.Errorf("the flow to what was taken away went on for %v", ended)
		}
		checkTCP(t, a, lan.at(4, 7002), syscall.ENETUNREACH)
		const switches = "/proc/sys/net/ipv4/conf/eth1/forwarding /proc/sys/net/ipv6/conf/eth1/force_forwarding"
		if on := gateway.Run(t, "sh", "-c", "cat "+switches); on != "0\n0\n" {
			t.Errorf("the gateway forwards still: %q", on)
		}
		if out := a.Run(t, "ip", "-4", "route", "show", "dev", "tun0"); strings.Contains(out, "192.168.7.0") {
			t.Errorf("h1 has the route still: %s", out)
		}
		began = time.Now()
		n.KDC.Do(t, append([]string{"peer", "set", gateway.Name}, lan.subnets("+")...)...)
		back := goes.first(t).Sub(began)
		if back > changeWithin {
			t.Errorf("the flow to what was added runs after %v", back)
		}
		t.Logf("taken away: last answer after %v; added: first answer after %v", ended.Round(time.Millisecond), back.Round(time.Millisecond))
		goes.runs(t)
	}
	stays.lostNothing(t)
	goes.end()
	if log := a.Log(t); strings.Contains(log, "reason=\"policy changed\"") {
		t.Errorf("a session was revoked:\n%s", log)
	}
}

// first waits for an answer from now on, and gives when it came.
func (f *flow) first(t *testing.T) time.Time {
	t.Helper()
	from := time.Now()
	eventually(t, patience, "the flow is answered", func() error {
		if !f.newest().After(from) {
			return fmt.Errorf("none since %v", f.newest())
		}
		return nil
	})
	return f.newest()
}

// TestSubnetToSubnet: networks behind two gateways reach each other, for what policy permits.
func TestSubnetToSubnet(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	n.KDC.Do(t, "init", "--address", "10.77.0.1")
	n.KDC.Serve(t)
	var lans []*Host
	for i, gateway := range n.Hosts {
		lan := n.lan(t, gateway, 7+i)
		gateway.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, gateway, lan.subnets("")...))
		lans = append(lans, lan)
	}
	a, b := lans[0], lans[1]
	n.KDC.Apply(t, fmt.Sprintf(`{"id": "sites", "src": ["%s", "%s"], "dst": ["%s", "%s"], "allow": ["tcp/7000", "icmp"]}`,
		a.subnet(4), a.subnet(6), b.subnet(4), b.subnet(6)))
	for i, gateway := range n.Hosts {
		gateway.SSM(t, "up")
		gateway.reaches(t, lans[1-i])
	}
	for _, family := range []int{4, 6} {
		a.Run(t, "ping", "-c2", "-i0.05", "-W5", b.address(family))
		transferBothWays(t, a, b, family)
		refusedAtOnce(t, a, b.at(family, 7001), family)
		refusedAtOnce(t, b, a.at(family, 7000), family)
	}
}

// TestFirewallWarning: a firewall that drops what is forwarded is told in the log and the status, as it comes, and no more
// once a rule lets the tunnel through.
func TestFirewallWarning(t *testing.T) {
	t.Parallel()
	_, _, gateway, _ := newGateway(t, nil, toLab("h1", "icmp"))
	const warning = "policy drop of chain FORWARD in table ip filter"
	warned := func(want bool) {
		t.Helper()
		eventually(t, started, fmt.Sprint("the status warns: ", want), func() error {
			if out := gateway.SSM(t, "status"); strings.Contains(out, warning) != want {
				return fmt.Errorf("it is\n%s", out)
			}
			return nil
		})
	}
	warned(false)
	gateway.Run(t, "nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
	warned(true)
	if log := gateway.Log(t); strings.Count(log, warning) != 1 || !strings.Contains(log, "nft insert rule ip filter FORWARD iifname tun0 accept") {
		t.Errorf("the log:\n%s", log)
	}
	gateway.Run(t, "nft", "insert rule ip filter FORWARD iifname tun0 accept")
	warned(false)
}

// TestSubnetRefused: the KDC gives no peer a subnet that overlaps an overlay or another peer's; and a host takes no route to
// one that overlaps a network of its own, and says why, unless it is told to.
func TestSubnetRefused(t *testing.T) {
	t.Parallel()
	n, a, gateway, lan := newGateway(t, nil, toLab("h1", "icmp"),
		`{"id": "wide", "src": ["h1"], "dst": ["10.77.0.0/16"], "allow": ["icmp"]}`)
	for _, flags := range [][]string{
		{"add", "h9", "--subnet", "100.80.4.0/24"}, {"add", "h9", "--subnet", "192.168.0.0/16"}, {"add", "h9", "--subnet", lan.subnet(6)},
		{"set", a.Name, "--subnet", "+192.168.7.128/25"}, {"set", gateway.Name, "--subnet", "+100.0.0.0/8"},
	} {
		refuses(t, n.KDC.Try(t, append([]string{"peer"}, flags...)...), 6, "overlaps")
	}
	n.KDC.Do(t, "peer", "set", gateway.Name, "--subnet", "+10.77.0.0/16")
	eventually(t, started, "the route is refused", func() error {
		for _, r := range a.listed(t) {
			if r.Prefix.String() == "10.77.0.0/16" && r.State == "refused" && strings.Contains(r.Reason, "overlaps 10.77.0.0/24") {
				return nil
			}
		}
		return fmt.Errorf("%+v", a.listed(t))
	})
	succeeds(t, a.TrySSM(t, "route", "add", "--force", "10.77.0.0/16"), "installed 10.77.0.0/16, forced")
	a.Run(t, "ping", "-c1", "-W5", lan.address(4)) // the KDC and the gateway are nearer by the host's own route
}
