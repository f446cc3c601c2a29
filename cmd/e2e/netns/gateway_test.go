package netns

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ruleset is all of nftables on the host.
func (h *Host) ruleset(t *testing.T) string {
	t.Helper()
	return h.Run(t, "nft", "list", "ruleset")
}

// TestGateway: a host leads to the network behind it, both families, for what policy permits and nothing else, also under
// the strictest reverse path filter; flows begin on either side. Afterwards the host is as it was.
func TestGateway(t *testing.T) {
	t.Parallel()
	n, a, gateway, lan := newGateway(t, nil, toLab("h1", "tcp/7000", "udp/*", "icmp"), fromLab("h1", "tcp/7005", "icmp"))
	gateway.SSM(t, "down")
	gateway.killAll(t) // it is about to end
	gateway.script(t, "for f in all tun0 eth1; do [ ! -e /proc/sys/net/ipv4/conf/$f ] || echo 1 >/proc/sys/net/ipv4/conf/$f/rp_filter; done")
	before := gateway.everything(t) + gateway.ruleset(t)
	gateway.SSM(t, "up")
	a.reaches(t, lan)
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			a.Run(t, "ping", "-c2", "-i0.05", "-W5", lan.address(family))
			t.Run("TCP both ways", func(t *testing.T) { transferBothWays(t, a, lan, family) })
			t.Run("UDP", func(t *testing.T) { datagramsThrough(t, a, lan, family) })
			t.Run("a port without a grant", func(t *testing.T) { refusedAtOnce(t, a, lan.at(family, 7002), family) })
			t.Run("inwards", func(t *testing.T) {
				a.listen(t, family, 7005, func(c net.Conn) { c.Write([]byte("welcome")); c.Close() })
				b := make([]byte, 7)
				if _, err := lan.mustDial(t, "tcp", a.at(family, 7005)).Read(b); err != nil || string(b) != "welcome" {
					t.Errorf("read %q, %v", b, err)
				}
				refusedAtOnce(t, lan, a.at(family, 7006), family)
			})
		})
	}
	t.Run("a foreign source", func(t *testing.T) { foreignSource(t, a, gateway, lan) })
	t.Run("status", func(t *testing.T) { gatewayStatus(t, n, a, gateway, lan) })
	gateway.SSM(t, "down")
	same(t, "down", before, gateway.everything(t)+gateway.ruleset(t))
	gateway.SSM(t, "up")
	gateway.kill(t)
	succeeds(t, gateway.TrySSM(t, "down"), "put back")
	same(t, "kill -9 and down", before, gateway.everything(t)+gateway.ruleset(t))
}

// TestNarrowLan: where the network behind a gateway carries less than the tunnel, TCP gets through under a grant for its
// port alone: the gateway's word that a packet is too long is part of the flow.
func TestNarrowLan(t *testing.T) {
	t.Parallel()
	_, a, gateway, lan := newGateway(t, nil, toLab("h1", "tcp/7000"))
	a.reaches(t, lan)
	gateway.script(t, `ip route change 192.168.7.0/24 dev eth1 mtu lock 1300
		ip -6 route replace fd19:7::/64 dev eth1 metric 256 mtu lock 1300`)
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) { transferBothWays(t, a, lan, family) })
	}
}

// datagramsThrough sends datagrams until one has come back, of each size: the lan learns from the gateway what fits into
// the tunnel, by losing one.
func datagramsThrough(t *testing.T, a, lan *Host, family int) {
	lan.echo(t, family, 7001)
	conn := a.mustDial(t, "udp", lan.at(family, 7001))
	back := make([]byte, 1<<16)
	for _, size := range []int{1, 100, 1372, 1393, 4000, 65000} {
		out := bytes.Repeat([]byte{byte(size)}, size)
		rand.Read(out)
		eventually(t, patience, fmt.Sprint(size, " bytes come back"), func() error {
			conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := conn.Write(out); err != nil {
				return err
			}
			n, err := conn.Read(back)
			if err == nil && !bytes.Equal(back[:n], out) {
				return fmt.Errorf("%d other bytes", n)
			}
			return err
		})
	}
}

// refusedAtOnce checks that a connection fails as policy refuses, in the words of each family.
func refusedAtOnce(t *testing.T, from *Host, address string, family int) {
	t.Helper()
	want := syscall.EHOSTUNREACH
	if family == 6 {
		want = syscall.EACCES
	}
	checkTCP(t, from, address, want)
}

// foreignSource: a host beside the registered subnet, which the gateway forwards as well, and a peer with an address that
// is not its own, are refused where they come in; nothing of theirs arrives.
func foreignSource(t *testing.T, a, gateway, lan *Host) {
	gateway.Run(t, "ip", "addr", "add", "192.168.8.1/24", "dev", "eth1")
	lan.Run(t, "ip", "addr", "add", "192.168.8.2/24", "dev", "eth0")
	a.Run(t, "ip", "addr", "add", "10.99.0.1/32", "dev", "lo")
	for _, try := range []struct {
		from, through *Host
		source, to    string
	}{{lan, gateway, "192.168.8.2", a.address(4)}, {a, a, "10.99.0.1", lan.address(4)}} {
		before := dropped(t, try.through)
		r := try.from.Try(t, "ping", "-c1", "-W5", "-I", try.source, try.to)
		if r.Code == 0 || !strings.Contains(r.Stdout, "Packet filtered") {
			t.Errorf("from %s: %s", try.source, r)
		}
		if after := dropped(t, try.through); after != before+1 {
			t.Errorf("%s counts %d refused, %d before", try.through.Name, after, before)
		}
	}
	gateway.Run(t, "ip", "addr", "del", "192.168.8.1/24", "dev", "eth1")
}

// dropped counts what policy has refused on the host.
func dropped(t *testing.T, h *Host) (n uint64) {
	t.Helper()
	return h.Status(t).Drops["denied"]
}

// gatewayStatus: each side tells what it has. The gateway has no route to its own subnet.
func gatewayStatus(t *testing.T, n *Net, a, gateway, lan *Host) {
	if list := gateway.listed(t); len(list) != 0 {
		t.Errorf("the gateway is offered %v", list)
	}
	for _, s := range gateway.Status(t).Gateway {
		if s.State != "forwarding" || len(s.Interfaces) != 1 || s.Interfaces[0] != "eth1" || len(s.Warnings) != 0 {
			t.Errorf("subnet %+v", s)
		}
	}
	out := gateway.SSM(t, "status")
	for _, family := range []int{4, 6} {
		if !strings.Contains(out, lan.subnet(family)+" ") {
			t.Errorf("the status has no line of %s:\n%s", lan.subnet(family), out)
		}
	}
	elsewhere := "172.16.5.0/24"
	n.KDC.Do(t, "peer", "set", gateway.Name, "--subnet", "+"+elsewhere)
	eventually(t, started, "the gateway says that it does not reach a subnet", func() error {
		out := gateway.SSM(t, "status")
		for line := range strings.SplitSeq(out, "\n") {
			if strings.HasPrefix(line, elsewhere) && strings.Contains(line, "failed: no interface of this host leads there") {
				return nil
			}
		}
		return fmt.Errorf("status:\n%s", out)
	})
	if log := gateway.Log(t); !strings.Contains(log, "level=WARN msg=\"cannot forward to a subnet\" subnet="+elsewhere) {
		t.Errorf("not warned:\n%s", log)
	}
	// A route of the host's own to it appears, and goes: the way is followed.
	gateway.Run(t, "ip", "route", "add", elsewhere, "via", "192.168.7.2")
	eventually(t, started, "the gateway forwards", func() error { return forwardsTo(t, gateway, elsewhere, "forwarding") })
	gateway.Run(t, "ip", "route", "del", elsewhere)
	eventually(t, started, "the gateway forwards no longer", func() error { return forwardsTo(t, gateway, elsewhere, "failed") })
	n.KDC.Do(t, "peer", "set", gateway.Name, "--subnet", "-"+elsewhere)
}

func forwardsTo(t *testing.T, gateway *Host, subnet, want string) error {
	for _, s := range gateway.Status(t).Gateway {
		if s.Prefix.String() == subnet && s.State == want {
			return nil
		}
	}
	return fmt.Errorf("%+v", gateway.Status(t).Gateway)
}
