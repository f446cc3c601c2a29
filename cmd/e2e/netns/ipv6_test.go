package netns

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// onlyV4 and onlyV6 are overlays of one family alone.
const (
	onlyV4 = "100.90.0.0/16"
	onlyV6 = "fd90:1:2::/48"
)

// mix is one way in which the families inside and outside can meet.
type mix struct {
	name    string
	without [2]string // family taken off the hosts' cables: "-4", "-6"; "off": IPv6 is disabled in the kernel
	kdc     string    // as `kdc init --address` is given it
	dialed  string    // as the SSMs are told
	listen  string
	overlay []string
	from    []netip.Addr // where each other may be heard from
}

var (
	outside4 = []netip.Addr{netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")}
	outside6 = []netip.Addr{netip.MustParseAddr("fd77::11"), netip.MustParseAddr("fd77::12")}
	mixes    = []mix{
		{name: "IPv4 outside", without: [2]string{"-6", "-6"}, kdc: "10.77.0.1", from: outside4},
		{name: "IPv6 outside", without: [2]string{"-4", "-4"}, kdc: "[fd77::1]:7600", listen: "[fd77::1]:7600", from: outside6},
		{name: "both outside, the KDC by IPv6", kdc: "fd77::1", dialed: "[fd77::1]:7600", from: slices.Concat(outside4, outside6)},
		{name: "no IPv6 in one kernel", without: [2]string{"off", ""}, kdc: "10.77.0.1", from: outside4},
		{name: "only IPv4 inside", without: [2]string{"-4", "-4"}, kdc: "[fd77::1]", dialed: "[fd77::1]:7600",
			overlay: []string{onlyV4}, from: outside6},
		{name: "only IPv6 inside", without: [2]string{"-6", "-6"}, kdc: "10.77.0.1", overlay: []string{onlyV6}, from: outside4},
	}
)

// TestMixes: each family inside travels over each outside.
func TestMixes(t *testing.T) {
	t.Parallel()
	for _, m := range mixes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			n := newNet(t, 2)
			m.start(t, n)
			a, b := n.Hosts[0], n.Hosts[1]
			families := m.families()
			for _, family := range families {
				n.KDC.Cold(t)
				began := time.Now()
				carries(t, a, b, family)
				t.Logf("IPv%d inside: %v", family, time.Since(began).Round(time.Millisecond))
			}
			m.check(t, n)
		})
	}
}

// families are those that both hosts have inside.
func (m mix) families() []int {
	switch {
	case m.without[0] == "off" || fmt.Sprint(m.overlay) == "["+onlyV4+"]":
		return []int{4}
	case len(m.overlay) > 0:
		return []int{6}
	}
	return []int{4, 6}
}

// start makes the overlay, with the families outside that the mix has.
func (m mix) start(t *testing.T, n *Net) {
	for i, h := range n.Hosts {
		switch m.without[i] {
		case "":
		case "off":
			h.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
		default:
			h.Run(t, "ip", m.without[i], "addr", "flush", "dev", "eth0")
		}
	}
	args := []string{"init", "--address", m.kdc}
	for _, o := range m.overlay {
		args = append(args, "--overlay", o)
	}
	if m.listen != "" {
		args = append(args, "--listen", m.listen)
	}
	n.KDC.Do(t, args...)
	n.KDC.Serve(t)
	for i, h := range n.Hosts {
		h.SSM(t, "enrol", "--token-file", n.KDC.Peer(t, h))
		up := []string{"up"}
		if m.without[i] == "-4" { // as for a forwarded port
			up = append(up, "--endpoint", fmt.Sprintf("[fd77::1%d]:7601", i+1))
		}
		h.SSM(t, up...)
	}
	n.KDC.Apply(t, grant("tag:all", "tag:all", "icmp", "tcp/7000", "udp/*")) // fragments have no ports
}

// carries is what a pair of hosts needs: pings both ways, up to the longest there are, bytes of a TCP connection and a UDP
// service.
func carries(t *testing.T, a, b *Host, family int) {
	t.Helper()
	a.Run(t, "ping", "-c3", "-i0.05", "-W5", b.address(family))
	b.Run(t, "ping", "-c3", "-i0.05", "-W5", a.address(family))
	b.listen(t, family, 7000, func(conn net.Conn) {
		io.Copy(conn, conn)
		conn.Close()
	})
	const bulk = 4 << 20
	began := time.Now()
	if err := returned(a.mustDial(t, "tcp", b.at(family, 7000)), bulk); err != nil {
		t.Error("TCP: ", err)
	}
	t.Logf("IPv%d inside: %d MiB there and back in %v", family, bulk>>20, time.Since(began).Round(time.Millisecond))
	datagrams(t, a, b, family)
	for _, from := range []*Host{a, b} {
		to := map[*Host]*Host{a: b, b: a}[from]
		from.Run(t, "ping", "-c3", "-i0.05", "-W5", "-s65000", to.address(family))
	}
}

// check looks at how it was carried.
func (m mix) check(t *testing.T, n *Net) {
	t.Helper()
	dialed := m.dialed
	if dialed == "" {
		dialed = m.kdc
	}
	if !strings.HasSuffix(dialed, ":7600") {
		dialed += ":7600"
	}
	for _, h := range n.Hosts {
		st := h.Status(t)
		if st.KDCs[0].Address != dialed || !st.KDCs[0].Connected || st.Fault != "" {
			t.Errorf("%s: KDC %+v, fault %q; want %s", h.Name, st.KDCs, st.Fault, dialed)
		}
		for _, s := range st.Sessions {
			if !slices.Contains(m.from, s.Endpoint.Addr()) {
				t.Errorf("%s has its peer at %v, want one of %v", h.Name, s.Endpoint, m.from)
			}
		}
		if st.Drops["link_local"]+st.Drops["loop"]+st.Drops["inner_source"]+st.Drops["selector"] != 0 {
			t.Errorf("%s: drops %v", h.Name, st.Drops)
		}
		if out := h.Run(t, "ip", "-6", "addr", "show", "dev", "tun0", "scope", "link"); out != "" {
			t.Errorf("%s has a link-local address inside: %s", h.Name, out)
		}
	}
	if n.KDC.Try(t, "status").Code != 0 {
		t.Error("the KDC does not answer")
	}
}
