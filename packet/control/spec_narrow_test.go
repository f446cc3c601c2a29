package control

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"ssmnet/packet"
)

// Narrowing, by the words of the package doc, against what the code makes of it.

func within(inner, outer netip.Prefix) bool {
	return outer.Contains(inner.Addr()) && inner.Bits() >= outer.Bits()
}

func ported(p packet.Protocol) bool { return p == 6 || p == 17 }

func specCovers(s, t packet.Selector) bool {
	if !within(t.Src, s.Src) || !within(t.Dst, s.Dst) || s.Protocol != 0 && s.Protocol != t.Protocol {
		return false
	}
	return !ported(s.Protocol) || t.Ports.Lo >= s.Ports.Lo && t.Ports.Hi <= s.Ports.Hi
}

func specCommon(p, q netip.Prefix) (netip.Prefix, bool) {
	if within(p, q) {
		return p, true
	}
	return q, within(q, p)
}

func specIntersect(had, now packet.Selector) (packet.Selector, bool) {
	src, ok1 := specCommon(had.Src, now.Src)
	dst, ok2 := specCommon(had.Dst, now.Dst)
	x := packet.Selector{Src: src, Dst: dst, Protocol: had.Protocol, Ports: had.Ports}
	switch {
	case had.Protocol == 0:
		x.Protocol, x.Ports = now.Protocol, now.Ports
	case now.Protocol != 0 && now.Protocol != had.Protocol:
		return x, false
	case now.Protocol != 0 && ported(had.Protocol):
		x.Ports = packet.PortRange{Lo: max(had.Ports.Lo, now.Ports.Lo), Hi: min(had.Ports.Hi, now.Ports.Hi)}
	}
	return x, ok1 && ok2 && x.Ports.Lo <= x.Ports.Hi
}

func specNarrow(had, now packet.Selectors) (list packet.Selectors) {
	take := func(s packet.Selector) {
		if len(list) == 512 || slices.ContainsFunc(list, func(l packet.Selector) bool { return specCovers(l, s) }) {
			return
		}
		list = append(slices.DeleteFunc(list, func(l packet.Selector) bool { return specCovers(s, l) }), s)
	}
	for _, s := range had {
		if slices.ContainsFunc(now, func(n packet.Selector) bool { return specCovers(n, s) }) {
			take(s)
			continue
		}
		for _, n := range now {
			if x, ok := specIntersect(s, n); ok {
				take(x)
			}
		}
	}
	return list
}

// TestSpecNarrows also wants that narrowing by the same once more changes nothing: several KDCs send the same.
func TestSpecNarrows(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	prefixes := []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.1.2.4/32", "fd00::/8", "fd00::1/128"}
	random := func() (list packet.Selectors) {
		for range 1 + r.IntN(8) {
			lo := uint16(r.IntN(8))
			s := packet.Selector{
				Src:      netip.MustParsePrefix(prefixes[r.IntN(len(prefixes))]),
				Dst:      netip.MustParsePrefix(prefixes[r.IntN(len(prefixes))]),
				Protocol: []packet.Protocol{0, 1, 6, 17, 47}[r.IntN(5)],
				Ports:    packet.PortRange{Lo: lo, Hi: lo + uint16(r.IntN(4))},
			}
			if !ported(s.Protocol) {
				s.Ports = packet.AllPorts
			}
			list = append(list, s)
		}
		return list
	}
	kept := 0
	for range 20000 {
		had, now := random(), random()
		want, got := specNarrow(had, now), had.Intersect(now)
		if !slices.Equal(got, want) {
			t.Fatalf("%v by %v is %v, by the doc %v", had, now, got, want)
		}
		if again := got.Intersect(now); !slices.Equal(again, got) {
			t.Fatalf("%v by %v twice is %v, once %v", had, now, again, got)
		}
		kept += min(len(got), 1)
	}
	if kept < 5000 {
		t.Errorf("only %d lists have anything in common", kept)
	}
}
