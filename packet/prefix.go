package packet

import "net/netip"

// Covers says whether addr lies in one of the prefixes.
func Covers(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// CoversPrefix says whether all of q lies in p.
func CoversPrefix(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// Narrower is what two prefixes have in common: one of them, or nothing.
func Narrower(p, q netip.Prefix) (netip.Prefix, bool) {
	if CoversPrefix(p, q) {
		return q, true
	}
	return p, CoversPrefix(q, p)
}
