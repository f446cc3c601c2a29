package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"ssmnet/packet/control"
	"ssmnet/tunssm"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/tun"
	"ssmnet/tunssm/udp"
)

const (
	// overhead is what sealing adds on the underlay: IPv6 (40) and UDP (8) headers, our header (16) and tag (16).
	overhead = 80
	maxMTU   = 65535 - overhead
)

var errDeclined = errors.New("declined with --accept-routes=false")

// openHost takes the port and the interface. What was taken is given back on an error, and otherwise by tunssm.SSM.Run.
func openHost(ctx context.Context, s settings, kdcs []string) (tunssm.Host, error) {
	socket, err := udp.Listen(uint16(s.Listen))
	if err != nil {
		return tunssm.Host{}, err
	}
	device, err := tun.Open(s.Interface)
	if err != nil {
		socket.Close()
		return tunssm.Host{}, err
	}
	if s.MTU == 0 {
		s.MTU = defaultMTU(ctx, kdcs)
	}
	routes := &routes{name: device.Name(), mtu: s.MTU, accept: s.AcceptRoutes, force: s.Force}
	return tunssm.Host{TUN: device, UDP: socket, Route: routes, Dial: dialTCP}, nil
}

// defaultMTU is the underlay's towards the KDCs, less our overhead, and never below what IPv6 needs.
func defaultMTU(ctx context.Context, kdcs []string) int {
	const ethernet = 1500
	var known []int
	for _, address := range kdcs {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil || len(addrs) == 0 {
			continue
		}
		if mtu, err := route.UnderlayMTU(addrs[0].Unmap()); err == nil {
			known = append(known, mtu)
		}
	}
	if len(known) == 0 {
		known = []int{ethernet}
	}
	return min(max(slices.Min(known)-overhead, route.MinMTU), maxMTU)
}

// routes is tunssm.Route on Linux.
type routes struct {
	name          string
	mtu           int
	accept, force bool
	offered       []netip.Prefix // installed because they were offered
}

func (r *routes) MTU() int { return r.mtu }

// Candidates are read anew each time: interfaces come and go.
func (r *routes) Candidates() []netip.Addr {
	list, err := udp.LocalAddresses(r.name)
	if err != nil {
		return nil // the KDC still sees where we come from
	}
	return list[:min(len(list), control.MaxAddresses)]
}

func (r *routes) Configure(addresses []netip.Addr, overlays []netip.Prefix) error {
	hosts := make([]netip.Prefix, len(addresses))
	for i, a := range addresses {
		hosts[i] = netip.PrefixFrom(a, a.BitLen())
	}
	if err := route.Configure(r.name, hosts, r.mtu); err != nil {
		return err
	}
	for _, overlay := range overlays {
		reachable := slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.Is4() == overlay.Addr().Is4() })
		if !reachable {
			continue // without an address of that family there is nothing to send from
		}
		if err := r.add(overlay, nil); err != nil {
			return fmt.Errorf("overlay %s: %w", overlay, err)
		}
	}
	return nil
}

func (r *routes) add(prefix netip.Prefix, avoid []netip.Addr) error {
	if !r.force {
		if err := route.Check(prefix, r.name, avoid); err != nil {
			return err
		}
	}
	return route.Add(r.name, prefix)
}

func (r *routes) Offer(offered []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error {
	refused := map[netip.Prefix]error{}
	for _, old := range r.offered {
		if !slices.Contains(offered, old) {
			if err := route.Del(r.name, old); err != nil {
				refused[old] = err
			}
		}
	}
	r.offered = nil
	for _, prefix := range offered {
		if !r.accept {
			refused[prefix] = errDeclined
		} else if err := r.add(prefix, avoid); err != nil {
			refused[prefix] = err
		} else {
			r.offered = append(r.offered, prefix)
		}
	}
	return refused
}
