package host

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"ssmnet/tunssm/route"
)

// Configure gives the interface these addresses and overlays, and what it had been offered before.
func (h *Host) Configure(addresses []netip.Addr, overlays []netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hosts, h.overlays, h.fault = nil, nil, nil
	hosts := make([]netip.Prefix, len(addresses))
	for i, a := range addresses {
		hosts[i] = netip.PrefixFrom(a, a.BitLen())
	}
	if h.adopts {
		if err := h.journal.Addresses(h.name, hosts); err != nil {
			return err
		}
	}
	hosts, err := h.setUp(hosts)
	if err != nil {
		return err
	}
	for _, overlay := range overlays {
		if homeless(hosts, overlay) {
			continue
		}
		if err := h.add(overlay); err != nil {
			return fmt.Errorf("overlay %s: %w", overlay, err)
		}
		h.overlays = append(h.overlays, overlay)
	}
	for _, prefix := range h.offered { // which the kernel may have dropped with an address
		if err := route.Add(h.name, prefix); err != nil {
			return err
		}
	}
	h.hosts = hosts
	h.guardRouter()
	if h.sink != nil {
		h.sink.Listen(h.name, addresses)
	}
	return nil
}

// setUp gives the interface its addresses, and says which: where the host has no IPv6, those of IPv4 alone.
func (h *Host) setUp(hosts []netip.Prefix) ([]netip.Prefix, error) {
	err := route.Configure(h.name, hosts, h.mtu)
	if !errors.Is(err, route.ErrNoIPv6) {
		return hosts, err
	}
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(p netip.Prefix) bool { return p.Addr().Is6() })
	if len(hosts) == 0 {
		return nil, err
	}
	h.log.Warn("the interface goes without IPv6", "interface", h.name, "error", err)
	return hosts, route.Configure(h.name, hosts, h.mtu)
}

// homeless says that hosts have no address of the prefix's family, to send from to what is in it.
func homeless(hosts []netip.Prefix, prefix netip.Prefix) bool {
	return !slices.ContainsFunc(hosts, func(p netip.Prefix) bool { return p.Addr().Is4() == prefix.Addr().Is4() })
}

// add routes an overlay into the interface.
func (h *Host) add(overlay netip.Prefix) error {
	if !h.force {
		conflicts, err := route.Check([]netip.Prefix{overlay}, h.name, nil)
		if err := cmp.Or(err, conflicts[overlay]); err != nil {
			return err
		}
	}
	return route.Add(h.name, overlay)
}
