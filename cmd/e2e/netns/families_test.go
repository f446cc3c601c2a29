package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRoamingBetweenFamilies: a host loses one family outside under traffic, and later that one is all it has. The session
// goes on by the other.
func TestRoamingBetweenFamilies(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	n.start(t, "fd77::1", grant("tag:all", "tag:all", "udp/7000-7001"))
	w := startWanderer(t, n)
	four, six := "10.77.0.11/24", "fd77::11/64"
	away := func(address string) { w.host.Run(t, "ip", "addr", "del", address, "dev", "eth0") }
	home := func(address string) {
		add := []string{"ip", "addr", "add", address, "dev", "eth0"}
		if address == six {
			add = append(add, "nodad")
		}
		w.host.Run(t, add...)
	}
	first, second := four, six
	if w.host.Status(t).Sessions[0].Endpoint.Addr().Is6() {
		first, second = six, four
	}
	for range times(1, 10) {
		for _, s := range senders {
			w.goesOn(t, "losing the family, "+s.name, s.sends, 2*roamWithin, func() { away(first) })
			w.isAt(t, netip.AddrPortFrom(netip.MustParsePrefix(second).Addr(), framePort))
			home(first)
			eventually(t, started, "the KDC knows both again", func() error {
				if out := n.KDC.Do(t, "peer", "show", "h1", "-o", "json"); !strings.Contains(out, netip.MustParsePrefix(first).Addr().String()) {
					return errors.New(out)
				}
				return nil
			})
			first, second = second, first
		}
	}
	w.tell(t)
}

// TestTemporaryAddress: the kernel sends from an address that it will take away (RFC 8981). Nobody is told of it, and when
// it goes, sessions and the connection to the KDC go on from the one that stays, whichever side sends.
func TestTemporaryAddress(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	a := n.Hosts[0]
	for _, h := range append(n.Hosts, n.KDC.Host) {
		h.Run(t, "ip", "-4", "addr", "flush", "dev", "eth0")
	}
	a.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.use_tempaddr=2")
	a.Run(t, "ip", "addr", "change", "fd77::11/64", "dev", "eth0", "mngtmpaddr", "noprefixroute", "nodad")
	a.Run(t, "ip", "route", "replace", "fd77::/64", "dev", "eth0")
	temporary := a.temporary(t)
	n.start(t, "fd77::1", grant("tag:all", "tag:all", "udp/7000-7001"))
	w := startWanderer(t, n)
	lasting := netip.AddrPortFrom(netip.MustParseAddr("fd77::11"), framePort)
	w.isAt(t, netip.AddrPortFrom(temporary, framePort))
	w.goesOn(t, "the address goes, only the other sends", [2]bool{false, true}, 2*roamWithin, func() {
		a.Run(t, "ip", "addr", "del", temporary.String()+"/64", "dev", "eth0")
	})
	w.isAt(t, lasting)
	eventually(t, started, "the KDC sees it at the address that stays", func() error {
		var p struct{ Source string }
		if decode(t, n.KDC.Do(t, "peer", "show", "h1", "-o", "json"), &p); !strings.HasPrefix(p.Source, "[fd77::11]:") && p.Source != "fd77::11" {
			return errors.New(p.Source)
		}
		return nil
	})
	w.tell(t)
}

// temporary is the host's temporary address.
func (h *Host) temporary(t *testing.T) (found netip.Addr) {
	t.Helper()
	eventually(t, started, "a temporary address", func() error {
		var links []struct {
			Addresses []struct {
				Local                netip.Addr
				Temporary, Tentative bool
			} `json:"addr_info"`
		}
		out := h.Run(t, "ip", "-6", "-j", "addr", "show", "dev", "eth0")
		if err := json.Unmarshal([]byte(out), &links); err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			for _, a := range l.Addresses {
				if a.Temporary && !a.Tentative {
					found = a.Local
					return nil
				}
			}
		}
		return errors.New(out)
	})
	return found
}

// TestNothingOfLinks: what keeps a link going stays on it: the tunnel has no link-local address, nothing of neighbour
// discovery or multicast enters it, and no link-local address is told of or sent to, also where it is the only one of
// IPv6 that hosts have.
func TestNothingOfLinks(t *testing.T) {
	t.Parallel()
	n := newNet(t, 2)
	a, b := n.Hosts[0], n.Hosts[1]
	for _, h := range n.Hosts {
		h.Run(t, "ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global")
		if out := h.Run(t, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "link"); !strings.Contains(out, "fe80::") {
			t.Fatalf("%s has no link-local address outside: this shows nothing", h.Name)
		}
	}
	n.Bridge.Run(t, "ip", "link", "set", "br0", "promisc", "on")
	outside := startCapture(t, n.Bridge, "br0", filepath.Join(n.dir, "underlay.pcap"))
	n.start(t, "10.77.0.1", grant("tag:all", "tag:all", "icmp"))
	inside := startCapture(t, a, "tun0", filepath.Join(n.dir, "tun0.pcap"))
	for _, family := range []int{4, 6} {
		a.Run(t, "ping", "-c2", "-i0.05", "-W10", b.address(family))
	}
	settled(t, a, b)
	a.Run(t, "ip", "link", "set", "tun0", "down")
	a.Run(t, "ip", "link", "set", "tun0", "up") // when a link asks for routers
	eventually(t, started, "both families again", func() error {
		for _, family := range []int{4, 6} {
			if r := a.Try(t, "ping", "-c1", "-W1", b.address(family)); r.Code != 0 {
				return errors.New(r.String())
			}
		}
		return nil
	})
	time.Sleep(loopWatch)
	for _, p := range inside.end(t, theLast, func() { a.pingPattern(t, b.V4.String(), theLast) }) {
		if src, dst := p.src.Addr(), p.dst.Addr(); dst.IsMulticast() || src.IsLinkLocalUnicast() || dst.IsLinkLocalUnicast() || src.IsUnspecified() {
			t.Errorf("protocol %d from %v to %v inside", p.protocol, src, dst)
		}
	}
	for _, p := range outside.end(t, theLast, func() { a.pingPattern(t, "10.77.0.12", theLast) }) {
		ours := p.src.Port() == framePort || p.dst.Port() == framePort || p.dst.Port() == controlPort
		if ours && p.src.Addr().Is6() {
			t.Errorf("from %v to %v outside", p.src, p.dst)
		}
	}
	for _, h := range n.Hosts {
		if out := h.Run(t, "ip", "-6", "addr", "show", "dev", "tun0", "scope", "link"); out != "" {
			t.Errorf("%s has a link-local address inside: %s", h.Name, out)
		}
		shown := n.KDC.Do(t, "peer", "show", h.Name) + fmt.Sprint(h.Status(t).Sessions)
		if strings.Contains(shown, "fe80:") {
			t.Errorf("%s is told of by %s", h.Name, shown)
		}
	}
}
