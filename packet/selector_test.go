package packet

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func sel(src, dst string, p Protocol, lo, hi uint16) Selector {
	return Selector{netip.MustParsePrefix(src), netip.MustParsePrefix(dst), p, PortRange{lo, hi}}
}

func TestSelectorMatch(t *testing.T) {
	f := func(c Class, p Protocol, port uint16) Flow {
		return Flow{Protocol: p, Class: c, Src: src4, Dst: dst4, SrcPort: 4000, DstPort: port}
	}
	const net = "10.77.0.0/24"
	tests := []struct {
		name string
		s    Selector
		f    Flow
		want bool
	}{
		{"port", sel(net, net, TCP, 443, 443), f(Complete, TCP, 443), true},
		{"low end", sel(net, net, TCP, 443, 450), f(Complete, TCP, 443), true},
		{"high end", sel(net, net, TCP, 443, 450), f(Complete, TCP, 450), true},
		{"below", sel(net, net, TCP, 443, 450), f(Complete, TCP, 442), false},
		{"above", sel(net, net, TCP, 443, 450), f(Complete, TCP, 451), false},
		{"other protocol", sel(net, net, TCP, 443, 443), f(Complete, UDP, 443), false},
		{"ports unknown", sel(net, net, TCP, 0, 65534), f(ProtocolOnly, TCP, 0), false},
		{"ports unknown, all ports", sel(net, net, TCP, 0, 65535), f(ProtocolOnly, TCP, 0), true},
		{"nothing known", sel(net, net, TCP, 0, 65535), f(Unclassified, TCP, 443), false},
		{"nothing known, any", sel(net, net, AnyProtocol, 0, 65535), f(Unclassified, 0, 0), true},
		{"any ignores ports", sel(net, net, AnyProtocol, 0, 0), f(Complete, TCP, 443), true},
		{"icmp has no ports", sel(net, net, ICMP, 0, 0), f(Complete, ICMP, 0), true},
		{"icmp is not icmpv6", sel(net, net, ICMP, 0, 0), f(Complete, ICMPv6, 0), false},
		{"later fragment of icmp", sel(net, net, ICMP, 0, 0), f(ProtocolOnly, ICMP, 0), true},
		{"source elsewhere", sel("10.78.0.0/24", net, AnyProtocol, 0, 65535), f(Complete, TCP, 443), false},
		{"destination elsewhere", sel(net, "10.77.0.3/32", AnyProtocol, 0, 65535), f(Complete, TCP, 443), false},
		{"other family", sel("::/0", "::/0", AnyProtocol, 0, 65535), f(Complete, TCP, 443), false},
		{"zero selector", Selector{}, f(Complete, TCP, 443), false},
		{"zero flow", sel("0.0.0.0/0", "0.0.0.0/0", AnyProtocol, 0, 65535), Flow{}, false},
	}
	for _, tt := range tests {
		if got := tt.s.Match(tt.f); got != tt.want {
			t.Errorf("%s: %v matches %v: %v", tt.name, tt.s, tt.f, got)
		}
	}
	mapped := f(Complete, TCP, 443)
	mapped.Src = netip.AddrFrom16(src4.As16())
	if sel("0.0.0.0/0", "0.0.0.0/0", AnyProtocol, 0, 65535).Match(mapped) {
		t.Error("a mapped address matches an IPv4 prefix")
	}
}

func TestSelectorsPermit(t *testing.T) {
	ss := Selectors{sel("10.77.0.1/32", "10.77.0.2/32", TCP, 443, 443), sel("10.77.0.2/32", "10.77.0.1/32", UDP, 53, 53)}
	flow := func(p Protocol, src, dst netip.Addr, sport, dport uint16) Flow {
		return Flow{Protocol: p, Class: Complete, Src: src, Dst: dst, SrcPort: sport, DstPort: dport}
	}
	for _, tt := range []struct {
		f    Flow
		want bool
	}{
		{flow(TCP, src4, dst4, 5000, 443), true},
		{flow(TCP, dst4, src4, 443, 5000), true}, // its reply
		{flow(TCP, dst4, src4, 5000, 443), false},
		{flow(TCP, src4, dst4, 443, 5000), false},
		{flow(UDP, dst4, src4, 5000, 53), true},
		{flow(UDP, src4, dst4, 53, 5000), true},
		{flow(UDP, src4, dst4, 5000, 53), false},
	} {
		if got := ss.Permits(tt.f); got != tt.want {
			t.Errorf("%v permitted: %v", tt.f, got)
		}
	}
	if (Selectors{}).Permits(flow(TCP, src4, dst4, 1, 2)) {
		t.Error("no selector permits")
	}
}

// randomSelectors gives selectors and the flows that tell them apart.
func randomSelectors(r *rand.Rand) (random func() Selector, flows []Flow) {
	prefixes := []string{"0.0.0.0/0", "10.0.0.0/8", "10.77.0.0/24", "10.77.0.1/32", "10.77.0.2/32", "::/0"}
	protocols := []Protocol{AnyProtocol, TCP, UDP, ICMP, 47}
	ports := []PortRange{AllPorts, {0, 0}, {80, 80}, {80, 443}, {443, 443}}
	random = func() Selector {
		return Selector{
			netip.MustParsePrefix(prefixes[r.IntN(len(prefixes))]), netip.MustParsePrefix(prefixes[r.IntN(len(prefixes))]),
			protocols[r.IntN(len(protocols))], ports[r.IntN(len(ports))],
		}
	}
	for _, p := range []Protocol{TCP, UDP, ICMP, 47, 99} {
		for _, class := range []Class{Unclassified, ProtocolOnly, Complete} {
			for _, port := range []uint16{0, 80, 100, 443, 500} {
				for _, src := range []netip.Addr{src4, dst4, netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("9.9.9.9")} {
					flows = append(flows, Flow{Protocol: p, Class: class, Src: src, Dst: dst4, DstPort: port})
				}
			}
		}
	}
	return random, flows
}

// TestCovers holds Covers against Match: a covered selector never matches what its cover does not.
func TestCovers(t *testing.T) {
	random, flows := randomSelectors(rand.New(rand.NewPCG(5, 6)))
	covers := 0
	for range 20000 {
		s, u := random(), random()
		if !s.Covers(s) {
			t.Fatalf("%v does not cover itself", s)
		}
		if !s.Covers(u) {
			continue
		}
		covers++
		for _, f := range flows {
			if u.Match(f) && !s.Match(f) {
				t.Fatalf("%v covers %v, which alone matches %v", s, u, f)
			}
		}
	}
	if covers < 1000 {
		t.Errorf("only %d pairs covered", covers)
	}
	if !sel("10.0.0.0/8", "10.0.0.0/8", ICMP, 0, 0).Covers(sel("10.77.0.0/24", "10.0.0.0/8", ICMP, 0, 65535)) {
		t.Error("ports matter to ICMP")
	}
}

// TestIntersect holds the intersection of lists against what each of them matches.
func TestIntersect(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	random, flows := randomSelectors(r)
	list := func() (ss Selectors) {
		for range r.IntN(5) {
			ss = append(ss, random())
		}
		return ss
	}
	match := func(ss Selectors, f Flow) bool {
		return slices.ContainsFunc(ss, func(s Selector) bool { return s.Match(f) })
	}
	some, whole := 0, 0
	for range 5000 {
		a, b := list(), list()
		both := a.Intersect(b)
		for _, f := range flows {
			if match(both, f) != (match(a, f) && match(b, f)) {
				t.Fatalf("%v and %v have %v in common, %v", a, b, both, f)
			}
		}
		if !a.CoverAll(both) || !b.CoverAll(both) {
			t.Fatalf("%v and %v do not both cover %v", a, b, both)
		}
		if again := both.Intersect(b); !slices.Equal(again, both) {
			t.Fatalf("%v narrowed to %v once more is %v", both, b, again)
		}
		for i, s := range both {
			if others := slices.Delete(slices.Clone(both), i, i+1); others.cover(s) {
				t.Fatalf("%v covers itself", both)
			}
		}
		if len(both) > 0 {
			some++
		}
		if both.CoverAll(b) && len(b) > 0 {
			whole++
		}
	}
	if some < 500 || whole < 50 {
		t.Errorf("%d of 5000 had something in common, %d all", some, whole)
	}
}

// TestUnion holds the union of lists against what each of them matches.
func TestUnion(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	random, flows := randomSelectors(r)
	list := func() (ss Selectors) {
		for range r.IntN(5) {
			ss = append(ss, random())
		}
		return ss
	}
	for range 2000 {
		a, b := list(), list()
		before := slices.Clone(a)
		both := a.Union(b)
		for _, f := range flows {
			match := func(s Selector) bool { return s.Match(f) }
			if slices.ContainsFunc(both, match) != (slices.ContainsFunc(a, match) || slices.ContainsFunc(b, match)) {
				t.Fatalf("%v with %v is %v, which differs on %v", a, b, both, f)
			}
		}
		if !slices.Equal(a, before) {
			t.Fatal("a list was written to")
		}
	}
	full := make(Selectors, MaxSelectors)
	for i := range full {
		full[i] = sel("10.0.0.0/8", "10.0.0.0/8", TCP, uint16(i), uint16(i))
	}
	if both := full.Union(Selectors{sel("10.0.0.0/8", "10.0.0.0/8", UDP, 1, 1)}); !slices.Equal(both, full) {
		t.Errorf("%d selectors", len(both))
	}
}

// TestIntersectBound: what does not fit one message is left out.
func TestIntersectBound(t *testing.T) {
	var a, b Selectors
	for i := range uint16(MaxSelectors) {
		a = append(a, sel("10.0.0.0/8", "10.77.0.0/24", TCP, 100+2*i, 101+2*i))
		b = append(b, sel("10.77.0.0/24", "10.0.0.0/8", TCP, 99+2*i, 100+2*i))
	}
	if both := a.Intersect(b); len(both) != MaxSelectors || !a.CoverAll(both) || !b.CoverAll(both) {
		t.Errorf("%d selectors", len(both))
	}
	a, b = nil, nil
	for i := range MaxSelectors { // each of a has something in common with each of b
		host := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}), 32).String()
		a = append(a, sel(host, "10.0.0.0/8", AnyProtocol, 0, 65535))
		b = append(b, sel("10.0.0.0/8", host, AnyProtocol, 0, 65535))
	}
	asked := 0
	both := Selectors(nil).take(func(yield func(Selector) bool) {
		for s := range a.common(b) {
			if asked++; !yield(s) {
				return
			}
		}
	})
	if asked != MaxSelectors {
		t.Errorf("an SSM would stand still over %d selectors", asked)
	}
	if whole := a.Intersect(b); !slices.Equal(whole, both) {
		t.Errorf("%d selectors, %d where it is asked", len(whole), len(both))
	}
	if len(both) != MaxSelectors || both[0] != sel("10.77.0.0/32", "10.77.0.0/32", AnyProtocol, 0, 65535) {
		t.Errorf("%d selectors, the first %v", len(both), both[0])
	}
}

func TestStrings(t *testing.T) {
	for want, got := range map[string]string{
		"10.77.0.0/24 > fd77::/64 *":            sel("10.77.0.0/24", "fd77::/64", AnyProtocol, 0, 65535).String(),
		"10.77.0.0/24 > 10.77.0.0/24 tcp/*":     sel("10.77.0.0/24", "10.77.0.0/24", TCP, 0, 65535).String(),
		"10.77.0.0/24 > 10.77.0.0/24 udp/53":    sel("10.77.0.0/24", "10.77.0.0/24", UDP, 53, 53).String(),
		"10.77.0.0/24 > 10.77.0.0/24 tcp/80-90": sel("10.77.0.0/24", "10.77.0.0/24", TCP, 80, 90).String(),
		"10.77.0.0/24 > 10.77.0.0/24 proto/47":  sel("10.77.0.0/24", "10.77.0.0/24", 47, 0, 65535).String(),
		"tcp 10.77.0.1:5 > 10.77.0.2:443":       Flow{TCP, Complete, src4, dst4, 5, 443}.String(),
		"udp [fd77::1]:5 > [fd77::2]:53":        Flow{UDP, Complete, src6, dst6, 5, 53}.String(),
		"tcp 10.77.0.1 > 10.77.0.2":             Flow{TCP, ProtocolOnly, src4, dst4, 0, 0}.String(),
		"icmp fd77::1 > fd77::2":                Flow{ICMPv6, Complete, src6, dst6, 0, 0}.String(),
		"unclassified 10.77.0.1 > 10.77.0.2":    Flow{0, Unclassified, src4, dst4, 0, 0}.String(),
		"tcp 10.77.0.2:443 > 10.77.0.1:5":       Flow{TCP, Complete, src4, dst4, 5, 443}.Reverse().String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestFlowHash: a flow and its replies have one hash, and flows spread over few queues evenly.
func TestFlowHash(t *testing.T) {
	for _, queues := range []uint32{2, 4, 8} {
		count := make([]int, queues)
		for i := range 1000 {
			f := Flow{Protocol: TCP, Src: netip.AddrFrom4([4]byte{100, 80, 0, byte(i % 10)}), SrcPort: uint16(40000 + i/10),
				Dst: netip.MustParseAddr("100.80.1.1"), DstPort: 443}
			if f.Hash() != f.Reverse().Hash() {
				t.Fatalf("%v and its replies differ", f)
			}
			count[f.Hash()%queues]++
		}
		for q, n := range count {
			if mean := 1000 / int(queues); n < mean*2/3 || n > mean*4/3 {
				t.Errorf("%d queues: queue %d has %d of 1000 flows", queues, q, n)
			}
		}
	}
}
