package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/bench"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/tun"
	"ssmnet/tunssm/udp"
	"ssmnet/tunssm/undo"
)

const (
	// overhead is what sealing adds on the underlay: IPv6 (40) and UDP (8) headers, our header (16) and tag (16).
	overhead = 80
	maxMTU   = 65535 - overhead
)

// openHost takes the port and the interface. What was taken is given back on an error, and otherwise by hosted.Run.
func openHost(ctx context.Context, s settings, kdcs []string, journal *undo.Journal, log *slog.Logger) (
	host tunssm.Host, r *routes, err error) {
	var closers []io.Closer
	defer func() {
		if err == nil {
			return
		}
		for _, c := range slices.Backward(closers) {
			c.Close()
		}
		_, undone := journal.PutBack()
		err = errors.Join(err, undone)
	}()
	socket, err := udp.Listen(uint16(s.Listen))
	if err != nil {
		return host, nil, err
	}
	closers = append(closers, socket)
	if s.MTU == 0 {
		s.MTU = defaultMTU(ctx, kdcs)
	}
	r = &routes{name: s.Interface, mtu: s.MTU, accept: s.AcceptRoutes, force: s.Force, log: log}
	if s.Bench {
		r.sink = bench.NewSink(log)
	}
	r.gateway = gateway{journal: journal, masquerade: s.Masquerade}
	if s.named && route.Persistent(s.Interface) {
		r.adopted = journal
	}
	device, err := r.open()
	if err != nil {
		return host, nil, err
	}
	closers = append(closers, device)
	if r.index, err = route.Index(r.name); err != nil {
		return host, nil, err
	}
	if r.watcher, err = route.Watch(); err != nil {
		return host, nil, err
	}
	return tunssm.Host{TUN: device, UDP: socket, Route: r, Dial: newDialer(r.dial).Dial, MTU: r.mtu}, r, nil
}

// open makes the interface, or attaches to one that is there to stay, as it was found is on record.
func (r *routes) open() (*tun.Device, error) {
	if r.adopted == nil {
		return tun.Open(r.name)
	}
	if err := route.Adopt(r.adopted, r.name, r.mtu); err != nil {
		return nil, err
	}
	return tun.Attach(r.name)
}

// hosted is an SSM on Linux, whose interface others can change under it.
type hosted struct {
	*tunssm.SSM
	journal   *undo.Journal
	routes    *routes
	decisions string // path of the file
}

// Run is tunssm.SSM.Run, keeps the interface as the SSM has set it up, and puts back at the end what is on record.
func (h hosted) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { h.routes.keep(ctx, h.SSM.Reroute) })
	err := h.SSM.Run(ctx)
	h.routes.watcher.Close()
	if h.routes.sink != nil {
		h.routes.sink.Close()
	}
	tasks.Wait()
	_, undone := h.journal.PutBack()
	return errors.Join(err, undone)
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
	st.CPU = cpuTime().Seconds()
	h.routes.tellGateway(st.Gateway)
	if lost := h.routes.lost(); err == nil && lost != nil {
		st.Ready, st.Fault = false, lost.Error()
	}
	if daemon.Supervised() {
		st.Service = service
	}
	return st, err
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// defaultMTU is the underlay's towards the KDCs, less our overhead, and never below what IPv6 needs. A KDC on this host
// says nothing of the underlay.
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
		if _, _, mtu, err := route.Way(addrs[0].Unmap()); err == nil && mtu <= maxMTU+overhead {
			known = append(known, mtu)
		}
	}
	if len(known) == 0 {
		known = []int{ethernet}
	}
	return min(max(slices.Min(known)-overhead, route.MinMTU), maxMTU)
}
