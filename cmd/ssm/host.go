package main

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"

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

// openHost takes the port and the interface. What was taken is given back on an error, and otherwise by hosted.Run.
func openHost(ctx context.Context, s settings, kdcs []string, log *slog.Logger) (tunssm.Host, *routes, error) {
	socket, err := udp.Listen(uint16(s.Listen))
	if err != nil {
		return tunssm.Host{}, nil, err
	}
	device, err := tun.Open(s.Interface)
	if err != nil {
		socket.Close()
		return tunssm.Host{}, nil, err
	}
	watcher, err := route.Watch()
	if err != nil {
		device.Close()
		socket.Close()
		return tunssm.Host{}, nil, err
	}
	if s.MTU == 0 {
		s.MTU = defaultMTU(ctx, kdcs)
	}
	r := &routes{
		name: device.Name(), mtu: s.MTU, accept: s.AcceptRoutes, force: s.Force, log: log, watcher: watcher,
	}
	return tunssm.Host{TUN: device, UDP: socket, Route: r, Dial: dialTCP}, r, nil
}

// hosted is an SSM on Linux, whose interface others can change under it.
type hosted struct {
	*tunssm.SSM
	routes    *routes
	decisions string // path of the file
}

// Run is tunssm.SSM.Run, and keeps the interface as the SSM has set it up.
func (h hosted) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { h.routes.keep(ctx, h.SSM.Reroute) })
	err := h.SSM.Run(ctx)
	h.routes.watcher.Close()
	tasks.Wait()
	return err
}

// Reroute takes the operator's decisions as they are now, and judges the offered routes anew.
func (h hosted) Reroute() error {
	d, err := loadDecisions(h.decisions)
	if err != nil {
		return err
	}
	h.routes.decide(d)
	return h.SSM.Reroute()
}

// Status is not ready while the interface is not as the SSM has set it up.
func (h hosted) Status() (tunssm.Status, error) {
	st, err := h.SSM.Status()
	if lost := h.routes.lost(); err == nil && lost != nil {
		st.Ready, st.Fault = false, lost.Error()
	}
	return st, err
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
