package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"ssmnet/packet"
)

// The oracle decides as slowly and obviously as can be: from the document's words, for one flow, with no selectors.

// oracleOwns says whether an address is one of the peer's, and whether it is an overlay address.
func oracleOwns(p Peer, a netip.Addr) (owned, overlay bool) {
	for _, q := range p.Addresses {
		if q == a {
			return true, true
		}
	}
	for _, s := range p.Subnets {
		if s.Contains(a) {
			return true, false
		}
	}
	return false, false
}

// oracleNames says whether a name of the document means address a of peer p, which owns it.
func oracleNames(d *Document, n Name, p Peer, a netip.Addr) bool {
	_, overlay := oracleOwns(p, a)
	switch n.Kind {
	case NamePeer:
		return overlay && n.Text == p.Name
	case NameTag:
		return overlay && slices.Contains(p.Tags, n.Text)
	case NameGroup:
		for _, m := range d.Groups[n.Text].Members {
			if overlay && m.Text == p.Name {
				return true
			}
		}
		return false
	case NameNet:
		return d.Nets[n.Text].Prefix.Contains(a)
	case NamePrefix:
		return n.Prefix.Contains(a)
	}
	return n.Kind == NameEverything
}

func oracleAllows(a Allow, f packet.Flow) bool {
	switch text := a.String(); {
	case text == "*":
		return true
	case f.Class == packet.Unclassified:
		return false
	case text == "icmp":
		return f.Protocol == packet.ICMP && f.Src.Is4() || f.Protocol == packet.ICMPv6 && f.Src.Is6()
	case a.Protocol != f.Protocol:
		return false
	case text == "tcp/*" || text == "udp/*" || !f.Protocol.HasPorts():
		return true
	}
	return f.Class == packet.Complete && a.Ports.Lo <= f.DstPort && f.DstPort <= a.Ports.Hi
}

// oracleStarts says whether a grant, in force or not, gives src the right to start f to dst.
func oracleStarts(d *Document, g Grant, src, dst Peer, f packet.Flow) bool {
	from := slices.ContainsFunc(g.Src, func(n Name) bool { return oracleNames(d, n, src, f.Src) })
	to := slices.ContainsFunc(g.Dst, func(n Name) bool { return oracleNames(d, n, dst, f.Dst) })
	allowed := slices.ContainsFunc(g.Allow, func(a Allow) bool { return oracleAllows(a, f) })
	return from && to && allowed && f.Src.Is4() == f.Dst.Is4()
}

// oracleDecide says what Decide must: whether, and by which grant.
func oracleDecide(d *Document, src, dst Peer, f packet.Flow, now time.Time) (bool, string) {
	fromSrc, _ := oracleOwns(src, f.Src)
	toDst, _ := oracleOwns(dst, f.Dst)
	if src.Suspended || dst.Suspended || src.Name == dst.Name || !fromSrc || !toDst {
		return false, ""
	}
	inForce := func(g Grant) bool { return !g.Disabled && (g.Until.IsZero() || now.Before(g.Until)) }
	for _, g := range d.Grants {
		if inForce(g) && oracleStarts(d, g, src, dst, f) {
			return true, g.ID
		}
	}
	for _, g := range d.Grants {
		if inForce(g) && oracleStarts(d, g, dst, src, f.Reverse()) {
			return true, g.ID
		}
	}
	return false, ""
}

// world makes random peers, documents and flows that meet often.
type world struct {
	*rand.Rand
	peers []Peer
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range 5 {
		p := Peer{Name: fmt.Sprintf("p%d", i), Suspended: w.IntN(20) == 0}
		p.Addresses = addresses(fmt.Sprintf("100.80.0.%d", i))
		if w.IntN(2) == 0 {
			p.Addresses = append(p.Addresses, addresses(fmt.Sprintf("fd00::%d", i))...)
		}
		if w.IntN(2) == 0 {
			p.Subnets = prefixes(fmt.Sprintf("10.%d.0.0/16", i), fmt.Sprintf("fd%02x::/32", i+1))
		}
		for _, t := range []string{"web", "db"} {
			if w.IntN(2) == 0 {
				p.Tags = append(p.Tags, t)
			}
		}
		w.peers = append(w.peers, p)
	}
	return w
}

func pick[T any](w *world, from []T) T { return from[w.IntN(len(from))] }

func (w *world) list(from []string) string {
	s := ""
	for range 1 + w.IntN(3) {
		s += fmt.Sprintf("%q,", pick(w, from))
	}
	return s
}

func (w *world) document() string {
	names := []string{
		"p0", "p1", "p2", "p3", "p4", "p9", "tag:web", "tag:db", "tag:gpu", "group:ops", "net:lab", "net:all", "*", "*",
		"10.0.0.0/8", "10.1.0.0/16", "10.2.3.0/24", "10.3.3.3", "100.80.0.0/30", "100.80.0.4",
		"fd00::/8", "fd02::/32", "::/0",
	}
	allows := []string{
		"tcp/22", "tcp/22-23", "tcp/20-25", "tcp/*", "udp/53", "udp/*",
		"icmp", "proto/1", "proto/6", "proto/58", "proto/47", "*", "*",
	}
	extras := []string{
		"", "", "", "", `"disabled":true`, `"until":"2026-12-01T00:00:00Z"`, `"until":"2026-12-02T00:00:00Z"`,
	}
	grants := ""
	for i := range w.IntN(10) {
		grants += fmt.Sprintf(`{"id":"g%d","src":[%s],"dst":[%s],"allow":[%s],%s},`,
			i, w.list(names), w.list(names), w.list(allows), pick(w, extras))
	}
	return fmt.Sprintf(`{"schema":"ssmnet.policy/v1","groups":{"ops":["p0","p1","p8"]},`+
		`"nets":{"lab":"10.1.2.0/23","all":"0.0.0.0/0"},"grants":[%s]}`, grants)
}

func (w *world) address(p Peer) netip.Addr {
	if len(p.Subnets) == 0 || w.IntN(3) == 0 {
		return pick(w, p.Addresses)
	}
	a := pick(w, p.Subnets).Addr().AsSlice()
	if len(a) == 4 {
		a[2], a[3] = byte(w.IntN(5)), byte(w.IntN(5))
	} else {
		a[15] = byte(w.IntN(5))
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

func (w *world) flow(src, dst Peer) packet.Flow {
	protocols := []packet.Protocol{packet.TCP, packet.UDP, packet.ICMP, packet.ICMPv6, 47, 99}
	f := packet.Flow{Class: packet.Class(w.IntN(3)), Src: w.address(src), Dst: w.address(dst)}
	if w.IntN(20) == 0 {
		f.Src = w.address(pick(w, w.peers))
	}
	for range 4 { // flows between the families say little
		if f.Src.Is4() != f.Dst.Is4() {
			f.Dst = w.address(dst)
		}
	}
	f.Protocol = pick(w, protocols)
	if f.Protocol.HasPorts() {
		ports := []uint16{19, 20, 22, 23, 25, 26, 53, 40000}
		f.SrcPort, f.DstPort = pick(w, ports), pick(w, ports)
	}
	return f
}

// TestOracle compares Decide and Pair with the oracle on random documents, peers, flows and times.
func TestOracle(t *testing.T) {
	permitted, denied := 0, 0
	first, second := start.AddDate(0, 1, 0), start.AddDate(0, 1, 1) // the untils of the documents
	times := []time.Time{start, first.Add(-1), first, second.Add(-1), second, start.AddDate(1, 0, 0)}
	for seed := range uint64(1000) {
		w := newWorld(seed)
		src := w.document()
		d := parse(t, src)
		c := compile(t, d, w.peers)
		for range 50 {
			a, b, now := pick(w, w.peers), pick(w, w.peers), pick(w, times)
			f := w.flow(a, b)
			want, grant := oracleDecide(d, a, b, f, now)
			got := c.Decide(a.Name, b.Name, f, now)
			if got.Permitted != want || want && got.Grant != grant {
				t.Fatalf("seed %d: %s > %s %s at %s: %+v, want %v by %q\n%s\n%+v",
					seed, a.Name, b.Name, f, now, got, want, grant, src, w.peers)
			}
			if got.Permitted {
				permitted++
			} else {
				denied++
			}
			checkPair(t, c, a.Name, b.Name, f, now, got)
		}
	}
	if permitted < 5000 || denied < 5000 {
		t.Errorf("%d permitted, %d denied: the worlds say too little", permitted, denied)
	}
}

// checkPair holds a pair to what it promises, and to the decision on f.
func checkPair(t *testing.T, c *Compiled, a, b string, f packet.Flow, now time.Time, d Decision) {
	t.Helper()
	p := c.Pair(a, b, now)
	if !reflect.DeepEqual(p, c.Pair(b, a, now)) {
		t.Fatalf("%s and %s: two pairs", a, b)
	}
	permits := d.Reason != ForeignAddress && p.Selectors.Permits(f)
	if d.Permitted != permits || d.Permitted && !reflect.DeepEqual(p, d.Pair) {
		t.Fatalf("%s > %s %s: decided %+v, selectors %v", a, b, f, d, p.Selectors)
	}
	for i, s := range p.Selectors {
		for j, r := range p.Selectors {
			if i != j && s.Covers(r) {
				t.Fatalf("%s and %s: %s covers %s", a, b, s, r)
			}
		}
	}
	if !p.Until.IsZero() {
		if !p.Until.After(now) || reflect.DeepEqual(c.Pair(a, b, p.Until), p) {
			t.Fatalf("%s and %s: until %s at %s", a, b, p.Until, now)
		}
		if before := c.Pair(a, b, p.Until.Add(-1)); !coversAll(before.Selectors, p.Selectors) {
			t.Fatalf("%s and %s: less before %s", a, b, p.Until)
		}
	} else if later := c.Pair(a, b, now.AddDate(100, 0, 0)); !coversAll(later.Selectors, p.Selectors) {
		t.Fatalf("%s and %s: less later, and no until", a, b)
	}
}

func coversAll(ss, of packet.Selectors) bool {
	for _, s := range of {
		if !slices.ContainsFunc(ss, func(r packet.Selector) bool { return r.Covers(s) }) {
			return false
		}
	}
	return true
}

// TestOracleRoutes: each route is part of another's subnet and some flow to or from it is permitted; whatever flow to
// another's subnet is permitted has a route.
func TestOracleRoutes(t *testing.T) {
	seen := 0
	for seed := range uint64(500) {
		w := newWorld(seed)
		c := compile(t, parse(t, w.document()), w.peers)
		for range 20 {
			a, b := pick(w, w.peers), pick(w, w.peers)
			routes := c.Routes(a.Name, start)
			f := w.flow(a, b)
			_, overlay := oracleOwns(b, f.Dst)
			if c.Decide(a.Name, b.Name, f, start).Permitted && !overlay {
				seen++
				if !packet.Covers(routes, f.Dst) {
					t.Fatalf("seed %d: %s may send %s, routes %s", seed, a.Name, f, routes)
				}
			}
			for _, r := range routes {
				checkRoute(t, w, c, a, r)
			}
		}
	}
	if seen < 250 {
		t.Errorf("%d flows to subnets: the worlds say too little", seen)
	}
}

func checkRoute(t *testing.T, w *world, c *Compiled, a Peer, r netip.Prefix) {
	t.Helper()
	for _, b := range w.peers {
		if b.Name == a.Name || !within(r, b.Subnets) {
			continue
		}
		for _, s := range c.Pair(a.Name, b.Name, start).Selectors {
			if s.Src == r || s.Dst == r {
				return
			}
		}
	}
	t.Fatalf("%s is offered %s, which is in no selector with its owner", a.Name, r)
}
