package netns

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mostInLoop bounds what ten pings may send, by any interface, as WireGuard's routing-loop test does: a loop would send
// without end.
const mostInLoop = 70000

// loopWatch is how long a host is watched for what goes on after the pings.
const loopWatch = 500 * time.Millisecond

// crossroads is three hosts under a policy that permits all, on an underlay of one family. What leads astray does so on
// the first.
type crossroads struct {
	*Net
	family  int
	a, b, c *Host
}

func newCrossroads(t *testing.T, family int) crossroads {
	t.Helper()
	x := crossroads{Net: newNet(t, 3), family: family}
	without := "-6"
	if family == 6 {
		without = "-4"
	}
	for _, h := range append(x.Hosts, x.KDC.Host) {
		h.Run(t, "ip", without, "addr", "flush", "dev", "eth0")
	}
	x.start(t, x.host(1), grant("*", "*", "*"))
	x.a, x.b, x.c = x.Hosts[0], x.Hosts[1], x.Hosts[2]
	x.pings(t, x.b)
	x.pings(t, x.c)
	return x
}

// host is the underlay address with that number.
func (x crossroads) host(number int) string {
	if x.family == 4 {
		return fmt.Sprint("10.77.0.", number)
	}
	return fmt.Sprint("fd77::", number)
}

// one is that address as a prefix.
func (x crossroads) one(number int) string {
	return fmt.Sprintf("%s/%d", x.host(number), map[int]int{4: 32, 6: 128}[x.family])
}

// all is a prefix of the whole underlay that is narrower than the network which the hosts are connected to.
func (x crossroads) all() string { return map[int]string{4: "10.77.0.0/25", 6: "fd77::/65"}[x.family] }

// route changes a route of the first host into its tunnel, as an operator or a routing daemon would.
func (x crossroads) route(t *testing.T, verb, prefix string) {
	t.Helper()
	x.a.Run(t, "ip", fmt.Sprint("-", x.family), "route", verb, prefix, "dev", "tun0")
}

// pings waits until a ping of the first host comes back.
func (x crossroads) pings(t *testing.T, to *Host) {
	t.Helper()
	for _, family := range []int{4, 6} {
		eventually(t, patience, "a ping of "+to.Name, func() error {
			if r := x.a.Try(t, "ping", "-c1", "-W1", to.address(family)); r.Code != 0 {
				return errors.New(r.String())
			}
			return nil
		})
	}
}

// footing is what a host has sent by each interface, and its SSM done.
type footing struct {
	eth0, tun0 int // bytes
	asked      int // requests for session keys
	loop       uint64
	cpu        time.Duration
}

func (h *Host) footing(t *testing.T) (f footing) {
	t.Helper()
	const counter = "/sys/class/net/%s/statistics/tx_bytes"
	out := h.Run(t, "cat", fmt.Sprintf(counter, "eth0"), fmt.Sprintf(counter, "tun0"))
	if _, err := fmt.Sscan(out, &f.eth0, &f.tun0); err != nil {
		t.Fatal(err)
	}
	f.asked = strings.Count(h.Log(t), "requesting a session key")
	f.loop = h.Status(t).Drops["loop"]
	f.cpu = cpu(t, h.daemon(t))
	return f
}

// cpu is the time that a process has computed (proc_pid_stat(5), utime and stime).
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// bounded pings the others while something leads astray, and checks what that has cost. Where looped, frames must have
// come back and been dropped.
func (x crossroads) bounded(t *testing.T, what string, looped bool) {
	t.Helper()
	before := x.a.footing(t)
	for _, to := range []*Host{x.b, x.c} {
		for _, family := range []int{4, 6} {
			x.a.Try(t, "ping", "-f", "-c10", "-W0.2", to.address(family))
		}
	}
	after := x.a.footing(t)
	eth0, tun0, loop := after.eth0-before.eth0, after.tun0-before.tun0, after.loop-before.loop
	t.Logf("%s: 40 pings, %d bytes by eth0, %d by tun0, %d frames came back, %d requests, CPU %v",
		what, eth0, tun0, loop, after.asked-before.asked, after.cpu-before.cpu)
	if eth0 > mostInLoop || tun0 > mostInLoop {
		t.Errorf("%s: %d bytes by eth0 and %d by tun0", what, eth0, tun0)
	}
	if looped != (loop > 0) {
		t.Errorf("%s: %d frames came back", what, loop)
	}
	time.Sleep(loopWatch)
	idle := x.a.footing(t)
	if idle.tun0-after.tun0 > mostInLoop/10 || idle.asked-after.asked > 4 || idle.cpu-after.cpu > loopWatch/2 {
		t.Errorf("%s: it goes on: %+v, then %+v", what, after, idle)
	}
	if strings.Contains(x.a.Log(t), "for="+x.host(1)+" ") || strings.Contains(x.a.Log(t), "for="+x.host(12)+" ") {
		t.Errorf("%s: a key was asked for an underlay address", what)
	}
}

// kdcIs waits until the first host has a connection to the KDC, or says that there is none because of its own routes.
func (x crossroads) kdcIs(t *testing.T, connected bool) {
	t.Helper()
	eventually(t, patience, fmt.Sprint("connected to the KDC: ", connected), func() error {
		k := x.a.Status(t).KDCs[0]
		if k.Connected != connected || !connected && !strings.Contains(k.Fault, "the host routes it into the tunnel") {
			return fmt.Errorf("%+v", k)
		}
		return nil
	})
}

// TestRoutingLoops: whatever leads a host's own frames or control messages into its tunnel costs as many bytes as it sent,
// is told, and heals when it has gone.
func TestRoutingLoops(t *testing.T) {
	t.Parallel()
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			t.Parallel() // most of it is waiting
			x := newCrossroads(t, family)
			x.bounded(t, "no loop", false)
			x.operatorsRoutes(t)
			x.forcedSubnets(t)
		})
	}
}

// operatorsRoutes lead to a peer, to the KDC and to the whole underlay.
func (x crossroads) operatorsRoutes(t *testing.T) {
	x.route(t, "add", x.one(12))
	x.bounded(t, "a peer's address", true)
	x.route(t, "del", x.one(12))
	x.pings(t, x.b)

	rule := func(verb string) { // of which no change to a route tells
		x.a.Run(t, "ip", fmt.Sprint("-", x.family), "rule", verb, "to", x.one(1), "lookup", "77")
	}
	x.a.Run(t, "ip", fmt.Sprint("-", x.family), "route", "add", x.one(1), "dev", "tun0", "table", "77")
	rule("add")
	x.kdcIs(t, false)
	x.bounded(t, "the KDC's address", false)
	x.pings(t, x.b) // sessions go on
	rule("del")
	x.kdcIs(t, true)

	x.route(t, "add", x.all())
	x.kdcIs(t, false)
	x.bounded(t, "the whole underlay", true)
	x.route(t, "del", x.all())
	x.kdcIs(t, true)
	x.pings(t, x.b)
	x.pings(t, x.c)
}

// forcedSubnets hold the peers' own addresses, each other's and the KDC's.
func (x crossroads) forcedSubnets(t *testing.T) {
	force := func(prefixes ...string) {
		for _, p := range prefixes {
			eventually(t, patience, p+" is offered, and refused", func() error {
				if list := x.a.listed(t); !strings.Contains(fmt.Sprint(list), p+" refused") {
					return fmt.Errorf("%v", list)
				}
				return nil
			})
		}
		for _, p := range prefixes {
			x.a.SSM(t, "route", "add", "--force", p)
		}
	}
	yield := func(prefixes ...string) {
		for _, p := range prefixes {
			x.a.SSM(t, "route", "del", p)
		}
		x.kdcIs(t, true)
		x.pings(t, x.b)
		x.pings(t, x.c)
	}
	x.KDC.Do(t, "peer", "set", "h2", "--subnet", "+"+x.one(12), "--subnet", "+"+x.one(1))
	force(x.one(12), x.one(1))
	x.kdcIs(t, false)
	x.bounded(t, "a subnet with its own peer's and the KDC's address", true)
	yield(x.one(12), x.one(1))

	x.KDC.Do(t, "peer", "set", "h2", "--subnet", "-"+x.one(12), "--subnet", "-"+x.one(1), "--subnet", "+"+x.one(13))
	x.KDC.Do(t, "peer", "set", "h3", "--subnet", "+"+x.one(12))
	refuses(t, x.a.TrySSM(t, "route", "add", x.one(12)), 6, x.one(12), "--force") // no longer declined, but in conflict
	force(x.one(12), x.one(13))
	x.bounded(t, "subnets with each other's addresses", true)
	yield(x.one(12), x.one(13))
}

// TestForcedKDCAddress: an address that the KDC names and that an operator has forced into the tunnel is not dialed, and
// nobody is asked for the way to it; the KDC that is reached serves on. An endpoint inside the overlay is told nobody.
func TestForcedKDCAddress(t *testing.T) {
	t.Parallel()
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			site, far, overlay := "10.20.0.0/16", "10.20.0.5:7600", "100.80.9.9:7601"
			if family == 6 {
				site, far, overlay = "fd20::/48", "[fd20::5]:7600", "[fd90:1:2::99]:7601"
			}
			n := newNet(t, 2)
			a, b, k := n.Hosts[0], n.Hosts[1], n.KDC
			k.Do(t, "init", "--address", "10.77.0.1", "--address", far, "--overlay", "100.80.0.0/12", "--overlay", onlyV6)
			k.Serve(t)
			a.SSM(t, "enrol", "--token-file", k.Peer(t, a))
			b.SSM(t, "enrol", "--token-file", k.Peer(t, b, "--subnet", site))
			k.Apply(t, grant("*", "*", "*"))
			a.SSM(t, "route", "add", "--force", site)
			a.SSM(t, "up", "--endpoint", overlay)
			b.SSM(t, "up")
			is := func(fault string) {
				t.Helper()
				eventually(t, patience, "the far KDC is told of as "+fault, func() error {
					kdcs := a.Status(t).KDCs
					if len(kdcs) != 2 || !kdcs[0].Connected || kdcs[1].Connected || !strings.Contains(kdcs[1].Fault, fault) {
						return fmt.Errorf("%+v", kdcs)
					}
					return nil
				})
			}
			is("the host routes it into the tunnel, tun0")
			before := a.footing(t)
			for _, inner := range []int{4, 6} {
				a.Run(t, "ping", "-c2", "-i0.05", "-W10", b.address(inner))
			}
			time.Sleep(loopWatch)
			after := a.footing(t)
			t.Logf("4 pings: %d bytes by tun0, %d requests, CPU %v", after.tun0-before.tun0, after.asked-before.asked, after.cpu-before.cpu)
			if after.tun0-before.tun0 > mostInLoop/10 || after.asked-before.asked > 2 {
				t.Errorf("before %+v, after %+v", before, after)
			}
			if log := a.Log(t); !strings.Contains(log, "the configured endpoint lies inside an overlay") {
				t.Errorf("not warned of the endpoint: %s", log)
			}
			if out := k.Do(t, "peer", "show", "h1", "-o", "json"); strings.Contains(out, overlay) {
				t.Errorf("told of: %s", out)
			}
			a.SSM(t, "route", "del", site)
			is("network is unreachable")
		})
	}
}

// TestThirdHostLoop: two gateways send each other what is for the same site, one through the tunnel and one past it. The
// tunnel leaves hop limits as they are, so it is the gateways' own forwarding that ends it.
func TestThirdHostLoop(t *testing.T) {
	t.Parallel()
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			site, stub, one, gateway, dst := "10.20.0.0/16", "10.30.0.0/16", "10.30.0.13/32", "10.77.0.12", "10.20.0.9"
			source, forwarding := "10.77.0.13", []string{"net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0",
				"net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0"}
			if family == 6 {
				site, stub, one, gateway, dst = "fd20::/48", "fd30::/48", "fd30::13/128", "fd77::12", "fd20::9"
				source, forwarding = "fd77::13", []string{"net.ipv6.conf.all.forwarding=1"}
			}
			ip := fmt.Sprint("-", family)
			n := newNet(t, 3)
			a, b, c := n.Hosts[0], n.Hosts[1], n.Hosts[2]
			n.KDC.Do(t, "init", "--address", "10.77.0.1")
			n.KDC.Serve(t)
			a.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, a, "--subnet", site))
			b.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, b, "--subnet", stub))
			refuses(t, n.KDC.Try(t, "peer", "set", "h2", "--subnet", "+"+site), 6, site, "overlaps", "h1")
			n.KDC.Apply(t, grant("*", "*", "*"))
			for _, h := range []*Host{a, b} {
				h.Run(t, append([]string{"sysctl", "-qw"}, forwarding...)...)
				h.SSM(t, "up", "--force")
			}
			a.Run(t, "ip", ip, "route", "add", site, "via", gateway) // back to the other, past the tunnel
			b.Run(t, "ip", ip, "route", "add", stub, "via", source, "metric", "10")
			c.Run(t, "ip", ip, "addr", "add", one, "dev", "eth0")
			eventually(t, started, "the address can be used", func() error {
				if r := c.Try(t, "ip", ip, "route", "replace", site, "via", gateway, "src", strings.Split(one, "/")[0]); r.Code != 0 {
					return errors.New(r.String())
				}
				return nil
			})
			a.Run(t, "ping", "-c1", "-W10", b.V4.String())
			before := b.footing(t)
			c.Try(t, "ping", "-c1", "-W1", "-t", "64", dst)
			after := b.footing(t)
			time.Sleep(loopWatch)
			idle := b.footing(t)
			rounds := (after.tun0 - before.tun0) / map[int]int{4: 84, 6: 104}[family]
			t.Logf("a ping of 64 hops: %d bytes by tun0, %d by eth0, %d rounds; then %d", after.tun0-before.tun0,
				after.eth0-before.eth0, rounds, idle.tun0-after.tun0)
			if rounds < 10 || rounds > 64 || after.eth0-before.eth0 > mostInLoop {
				t.Errorf("before %+v, after %+v", before, after)
			}
			if idle.tun0-after.tun0 > 200 { // a router's kernel reports its multicast groups, which goes no further than the SSM
				t.Errorf("it goes on: %+v, then %+v", after, idle)
			}
		})
	}
}
