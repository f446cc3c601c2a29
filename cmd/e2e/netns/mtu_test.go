package netns

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestPathMTU: whatever the underlay between two hosts carries, and whether or not its router says so, TCP and UDP get
// through the tunnel whole, in both families, over both.
//
//	h1  10.78.0.11, fd78::11   ===   router, which carries packets of so many bytes   ===   h2 on the bridge
func TestPathMTU(t *testing.T) {
	t.Parallel()
	n, r := newRouted(t, 1500)
	a, b := n.Hosts[0], n.Hosts[1]
	for _, underlay := range []int{4, 6} {
		if underlay == 6 {
			for _, h := range []*Host{a, b} { // the KDC is reached by IPv4 still: it names candidates of both families
				h.Run(t, "nft", "add table ip no { chain frames { type filter hook output priority 0; udp dport 7601 drop; } ; }")
			}
		}
		for _, mtu := range []int{1280, 1400, 1460, 1500}[:times(2, 4)] {
			for _, filtered := range []bool{true, false}[:times(1, 2)] {
				t.Run(fmt.Sprintf("over IPv%d of %d bytes, ICMP filtered %v", underlay, mtu, filtered), func(t *testing.T) {
					r.narrow(t, mtu, filtered)
					n.forgetPaths(t)
					for _, family := range []int{4, 6} {
						n.KDC.Cold(t)
						transferBothWays(t, a, b, family)
						for _, h := range n.Hosts { // or the datagrams that find it out are lost
							h.knowsPath(t, underlay, mtu, 1420)
						}
						datagrams(t, a, b, family)
					}
				})
			}
		}
	}
}

// TestWidePath: hosts whose Ethernet takes 9,000 bytes use them, and get through where the way between takes less.
func TestWidePath(t *testing.T) {
	t.Parallel()
	n, r := newRouted(t, 9000)
	a, b := n.Hosts[0], n.Hosts[1]
	for _, mtu := range []int{9000, 1500} {
		r.narrow(t, mtu, true)
		n.forgetPaths(t)
		for _, family := range []int{4, 6} {
			t.Run(fmt.Sprintf("IPv%d over %d bytes", family, mtu), func(t *testing.T) {
				transferBothWays(t, a, b, family)
				for _, h := range n.Hosts {
					h.knowsPath(t, 4, mtu, 8920)
				}
				datagrams(t, a, b, family)
			})
		}
	}
}

// TestRouteChanges: a flow that runs goes on where the host's own route comes to carry less, and more again.
func TestRouteChanges(t *testing.T) {
	t.Parallel()
	n, _ := newRouted(t, 1500)
	a, b := n.Hosts[0], n.Hosts[1]
	b.listen(t, 4, 7000, func(conn net.Conn) {
		io.Copy(io.Discard, conn)
		conn.Close()
	})
	conn := a.mustDial(t, "tcp", b.at(4, 7000))
	sent, stop := make(chan int64, 1), make(chan struct{})
	go func() {
		block, total := make([]byte, 64<<10), int64(0)
		for {
			select {
			case <-stop:
				sent <- total
				return
			default:
			}
			n, err := conn.Write(block)
			if total += int64(n); err != nil {
				sent <- -1
				return
			}
		}
	}()
	for _, mtu := range []int{1500, 1360, 1500, 1280} {
		a.Run(t, "ip", "route", "replace", "default", "via", "10.78.0.1", "mtu", "lock", fmt.Sprint(mtu))
		a.knowsPath(t, 4, mtu, 1420)
		before := a.Status(t).Tx.Packets
		eventually(t, started, "the flow goes on", func() error {
			if now := a.Status(t).Tx.Packets; now < before+1000 {
				return fmt.Errorf("%d packets since", now-before)
			}
			return nil
		})
	}
	close(stop)
	if n := <-sent; n < 0 {
		t.Error("the connection broke")
	}
	for h, drops := range map[string]map[string]uint64{"h1": a.drops(t), "h2": b.drops(t)} {
		if n := drops["send_failed"]; n > 0 {
			t.Errorf("%s: %d sends failed", h, n)
		}
	}
}

// newRouted is an overlay of two hosts with a router between them; all their interfaces have that MTU.
func newRouted(t *testing.T, mtu int) (*Net, *router) {
	t.Helper()
	n := newNet(t, 2)
	r := addRouter(t, n)
	r.Run(t, "ip", "addr", "add", "10.77.0.11/24", "dev", "bridge")
	r.Run(t, "ip", "addr", "add", "fd77::11/64", "dev", "bridge", "nodad")
	for _, h := range []*Host{n.Hosts[1], n.KDC.Host} {
		h.Run(t, "ip", "route", "add", "10.78.0.0/24", "via", "10.77.0.11")
		h.Run(t, "ip", "route", "add", "fd78::/64", "via", "fd77::11")
	}
	for device, h := range map[string]*Host{"eth0": n.Hosts[0], "host": r.Host, "bridge": r.Host, "h1": n.Bridge, "h2": n.Bridge, "kdc": n.Bridge} {
		h.Run(t, "ip", "link", "set", device, "mtu", fmt.Sprint(mtu))
	}
	for _, h := range []*Host{n.Hosts[1], n.KDC.Host} {
		h.Run(t, "ip", "link", "set", "eth0", "mtu", fmt.Sprint(mtu))
	}
	n.start(t, "10.77.0.1", grant("tag:all", "tag:all", "*"))
	return n, r
}

// forgetPaths makes the hosts begin with nothing known of the way between them.
func (n *Net) forgetPaths(t *testing.T) {
	t.Helper()
	for _, h := range n.Hosts {
		h.SSM(t, "down")
		h.Run(t, "ip", "-4", "route", "flush", "cache")
		h.Run(t, "ip", "-6", "route", "flush", "cache")
		h.SSM(t, "up")
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
func (h *Host) knowsPath(t *testing.T, family, mtu, most int) {
	t.Helper()
	const overhead4, overhead6, grain, least = 60, 80, 8, 1280
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
