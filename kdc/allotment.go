package kdc

import (
	"fmt"
	"net/netip"
	"slices"
)

// addresses checks the overlay addresses asked for; where none are, it allots the first that is free in each overlay.
func (k *KDC) addresses(s *snapshot, asked []netip.Addr, subnets []netip.Prefix) ([]netip.Addr, error) {
	overlays := k.Config().Overlays
	if len(asked) == 0 {
		return firstFree(s, overlays)
	}
	if len(asked) > maxAddresses {
		return nil, fmt.Errorf("%w: %d addresses, at most %d", ErrInvalid, len(asked), maxAddresses)
	}
	var list []netip.Addr
	for _, a := range asked {
		a = a.Unmap()
		at := slices.IndexFunc(overlays, func(o netip.Prefix) bool { return o.Contains(a) })
		switch {
		case at < 0 || a.Zone() != "":
			return nil, fmt.Errorf("%w address %s: it is in no overlay (%v)", ErrInvalid, a, overlays)
		case reserved(overlays[at], a):
			return nil, fmt.Errorf("%w address %s: it is the network's or broadcast address of %s", ErrInvalid, a, overlays[at])
		case slices.Contains(list, a):
			return nil, fmt.Errorf("%w address %s: it is named twice", ErrInvalid, a)
		}
		if p := s.owner(a); p != nil {
			return nil, fmt.Errorf("%w: address %s belongs to peer %s", ErrConflict, a, p.name)
		}
		list = append(list, a)
	}
	return list, nil
}

func firstFree(s *snapshot, overlays []netip.Prefix) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, o := range overlays {
		a := o.Addr().Next()
		for o.Contains(a) && s.owner(a) != nil {
			a = a.Next()
		}
		if !o.Contains(a) || reserved(o, a) {
			return nil, fmt.Errorf("%w: overlay %s has no free address: remove peers, or name another address", ErrConflict, o)
		}
		list = append(list, a)
	}
	return list, nil
}

// reserved says whether a is the first address of its overlay, or the last of an IPv4 one.
func reserved(o netip.Prefix, a netip.Addr) bool {
	return a == o.Addr() || a.Is4() && !o.Contains(a.Next())
}

// unroutable are addresses that no gateway leads to: of the host itself, of one link, of many, and of nobody.
var unroutable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// addSubnets adds to the subnets of a peer. None may overlap an overlay, or what another peer has.
func (k *KDC) addSubnets(s *snapshot, name string, to, subnets []netip.Prefix) ([]netip.Prefix, error) {
	for _, p := range subnets {
		switch {
		case !p.IsValid() || p.Addr().Is4In6() || p != p.Masked():
			return nil, fmt.Errorf("%w subnet %s: it is no prefix, or has bits set after its length", ErrInvalid, p)
		case slices.ContainsFunc(unroutable, func(u netip.Prefix) bool { return u.Bits() <= p.Bits() && u.Contains(p.Addr()) }):
			return nil, fmt.Errorf("%w subnet %s: loopback, link-local and multicast addresses lie behind no gateway", ErrInvalid, p)
		case slices.Contains(to, p):
			continue
		case slices.ContainsFunc(to, p.Overlaps):
			return nil, fmt.Errorf("%w: subnet %s overlaps another of the same peer", ErrConflict, p)
		}
		if i := slices.IndexFunc(k.Config().Overlays, p.Overlaps); i >= 0 {
			return nil, fmt.Errorf("%w: subnet %s overlaps the overlay %s", ErrConflict, p, k.Config().Overlays[i])
		}
		if q := s.overlapping(p, name); q != nil {
			return nil, fmt.Errorf("%w: subnet %s overlaps what peer %s has", ErrConflict, p, q.name)
		}
		to = append(to, p)
	}
	if len(to) > maxSubnets {
		return nil, fmt.Errorf("%w: %d subnets on one peer, at most %d", ErrInvalid, len(to), maxSubnets)
	}
	return to, nil
}

// overlapping finds a peer other than the named one that has something of p.
func (s *snapshot) overlapping(p netip.Prefix, but string) *peer {
	for _, q := range s.owners.Supernets(p) {
		if q.name != but {
			return q
		}
	}
	for _, q := range s.owners.Subnets(p) {
		if q.name != but {
			return q
		}
	}
	return nil
}
