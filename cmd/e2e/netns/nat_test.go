package netns

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// router stands between the first host and the rest, and translates addresses and ports:
//
//	h1                            rh1                                    bridge
//	eth0  10.78.0.11, fd78::11 == host  10.78.0.1, fd78::1
//	                              bridge  10.77.0.N, fd77::N, port P  == h1 on br0
type router struct {
	*Host
	net    *Net
	number int // of its outer address
	port   int // that frames seem to come from
}

// addRouter makes the namespace in the cable that is meant for the impairment relay into one that forwards.
func addRouter(t *testing.T, n *Net) *router {
	t.Helper()
	netns(t, "relay", n.prefix, "h1")
	r := &router{Host: n.host("rh1"), net: n}
	r.Run(t, "sh", "-c", `cd /proc/sys/net && echo 1 >ipv4/ip_forward && echo 1 >ipv6/conf/all/forwarding &&
		for i in all default host bridge; do echo 0 >ipv6/conf/$i/accept_dad && echo 0 >ipv6/conf/$i/disable_ipv6; done`)
	h := n.Hosts[0]
	h.Run(t, "ip", "addr", "flush", "dev", "eth0")
	for _, by := range []struct{ prefix, gateway string }{{"10.78.0.11/24", "10.78.0.1"}, {"fd78::11/64", "fd78::1"}} {
		bits := netip.MustParsePrefix(by.prefix).Bits()
		h.Run(t, "ip", "addr", "add", by.prefix, "dev", "eth0")
		r.Run(t, "ip", "addr", "add", fmt.Sprint(by.gateway, "/", bits), "dev", "host")
		h.Run(t, "ip", "route", "add", "default", "via", by.gateway)
	}
	return r
}

// rebind gives the router other outer addresses, or another port for the frames, and makes it forget all that it knew. It
// takes nothing unasked from outside: what the other side sends while nothing is known would have the port to itself.
func (r *router) rebind(t *testing.T, number, port int) {
	t.Helper()
	if number != r.number {
		r.Run(t, "ip", "addr", "flush", "dev", "bridge", "scope", "global")
		r.Run(t, "ip", "addr", "add", fmt.Sprintf("10.77.0.%d/24", number), "dev", "bridge")
		r.Run(t, "ip", "addr", "add", fmt.Sprintf("fd77::%d/64", number), "dev", "bridge", "nodad")
	}
	r.number, r.port = number, port
	rules := filepath.Join(r.net.dir, "nat.nft")
	write(t, rules, fmt.Sprintf(`flush ruleset
table inet nat {
	chain out {
		type nat hook postrouting priority srcnat
		oifname "bridge" meta nfproto ipv4 udp sport %d snat ip to 10.77.0.%d:%d
		oifname "bridge" meta nfproto ipv6 udp sport %d snat ip6 to [fd77::%d]:%d
		oifname "bridge" masquerade
	}
	chain in {
		type filter hook input priority 0
		iifname "bridge" meta l4proto udp ct state new drop
	}
	chain through {
		type filter hook forward priority 0
		iifname "bridge" meta l4proto udp ct state new drop
	}
}
`, framePort, number, port, framePort, number, port), 0o600)
	r.Run(t, "nft", "-f", rules)
	var err error
	r.in(t, func() { err = netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	if err != nil {
		t.Fatal("forget the connections: ", err)
	}
}

// at is where the host's frames seem to come from.
func (r *router) at(family int) netip.AddrPort {
	a := fmt.Sprintf("10.77.0.%d", r.number)
	if family == 6 {
		a = fmt.Sprintf("fd77::%d", r.number)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(a), uint16(r.port))
}

// unseenWithin is how soon traffic goes on where a router has given the receiving side another address or port: it cannot
// see that, and only its next keepalive tells the other side. That comes 5 s after its last word, give or take a second,
// if it has heard anything since; if not, the other side acquires anew after 10 s.
const unseenWithin = 9 * time.Second

// TestRebinding: the address, the port, or both, that a router gives to one side change under traffic, which goes on, on
// the same session.
func TestRebinding(t *testing.T) {
	t.Parallel()
	for family, without := range map[int]string{4: "-6", 6: "-4"} {
		t.Run(fmt.Sprint("IPv", family), func(t *testing.T) {
			t.Parallel()
			n := newNet(t, 2)
			r := addRouter(t, n)
			r.rebind(t, 100, 20000)
			kdc := map[int]string{4: "10.77.0.1", 6: "fd77::1"}[family]
			for _, h := range append(n.Hosts, n.KDC.Host) {
				h.Run(t, "ip", without, "addr", "flush", "dev", "eth0")
			}
			n.start(t, kdc, grant("tag:all", "tag:all", "udp/7000-7001"))
			w := startWanderer(t, n)
			for range moves {
				for _, s := range senders {
					within := roamWithin
					if !s.sends[0] {
						within = unseenWithin
					}
					number, port := r.number, r.port
					kind := (w.moved + w.moved/len(senders)) % 3
					if kind != 0 {
						port++
					}
					if kind != 1 {
						number = 100 + (number+1)%100
					}
					what := fmt.Sprint(s.name, ", ", []string{"another address", "another port", "both"}[kind])
					w.goesOn(t, what, s.sends, within, func() { r.rebind(t, number, port) })
					w.isAt(t, r.at(family))
				}
			}
			w.tell(t)
		})
	}
}
