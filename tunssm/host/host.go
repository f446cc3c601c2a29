// Package host is the Linux host of an SSM: the interface, the routes into it, forwarding to the subnets behind the host,
// and the way to the KDCs. It keeps the interface as the SSM has set it up, and in the end puts back what it has changed.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"ssmnet/tunssm"
	"ssmnet/tunssm/bench"
	"ssmnet/tunssm/raw"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/tun"
	"ssmnet/tunssm/udp"
	"ssmnet/tunssm/undo"
)

// Options are what a host is opened with.
type Options struct {
	Interface    string
	Adopt        bool // where an interface of that name is there to stay, it is meant
	Port         uint16
	Queues       int      // of the interface, and sockets on the port; 0: one
	MTU          int      // 0: the underlay's towards the KDCs, less overhead
	KDCs         []string // HOST:PORT
	AcceptRoutes bool     // install offered routes of which nothing is decided
	Force        bool     // and whatever is in their way
	Bench        bool     // serve measurements to peers
	Masquerade   bool     // the hosts of the subnets see this host's own address
	Decided      Decisions
	Journal      *undo.Journal
	Control      func(network, address string, c syscall.RawConn) error // of a connection to a KDC, as of net.Dialer
	Log          *slog.Logger
}

// Host is the host with its port and its interface taken.
type Host struct {
	name          string
	index         int // of the interface
	mtu           int
	accept, force bool
	adopts        bool // the interface was there, and how it was found is on record
	journal       *undo.Journal
	control       func(network, address string, c syscall.RawConn) error
	log           *slog.Logger
	queues        []*tun.Queue
	sockets       []*udp.Conn // as many
	watcher       *route.Watcher
	sink          *bench.Sink // nil: none is wanted
	gateway

	// mu guards what follows: the SSM's acquirer sets it, keep puts it back, operators decide and ask for the fault.
	mu       sync.Mutex
	decided  Decisions
	hosts    []netip.Prefix // addresses; nil before Configure has succeeded
	overlays []netip.Prefix // routed because they are the overlay
	offered  []netip.Prefix // routed because they were offered
	fault    error          // the interface has lost some of it
}

// Open takes the port and the interface. What was taken is given back on an error, and otherwise by Run.
func Open(ctx context.Context, o Options) (h *Host, err error) {
	var closers []io.Closer
	defer func() {
		if err == nil {
			return
		}
		for _, c := range slices.Backward(closers) {
			c.Close()
		}
		_, undone := o.Journal.PutBack()
		h, err = nil, errors.Join(err, undone)
	}()
	h = &Host{name: o.Interface, mtu: o.MTU, accept: o.AcceptRoutes, force: o.Force, journal: o.Journal,
		control: o.Control, log: o.Log, gateway: gateway{masquerade: o.Masquerade}, decided: o.Decided}
	if h.sockets, err = udp.Listen(o.Port, max(1, o.Queues)); err != nil {
		return nil, err
	}
	for _, s := range h.sockets {
		closers = append(closers, s)
	}
	if h.mtu == 0 {
		h.mtu = defaultMTU(ctx, o.KDCs)
	}
	h.adopts = o.Adopt && route.Persistent(h.name)
	if h.queues, err = h.open(len(h.sockets)); err != nil {
		return nil, err
	}
	for _, q := range h.queues {
		closers = append(closers, q)
	}
	if h.index, err = route.Index(h.name); err != nil {
		return nil, err
	}
	if h.watcher, err = route.Watch(); err != nil {
		return nil, err
	}
	if o.Bench {
		h.sink = bench.NewSink(o.Log)
	}
	return h, nil
}

// open makes the interface, or attaches to one that is there to stay, as it was found is on record. Such a one has one
// queue: another program could attach to more of them, unnoticed.
func (h *Host) open(queues int) ([]*tun.Queue, error) {
	if !h.adopts {
		return tun.Open(h.name, queues)
	}
	if queues > 1 {
		return nil, fmt.Errorf("%w: %s was made to stay, with one queue; choose another with --interface, or --queues 1",
			tun.ErrTaken, h.name)
	}
	if err := route.Adopt(h.journal, h.name, h.mtu); err != nil {
		return nil, err
	}
	q, err := tun.Attach(h.name)
	return []*tun.Queue{q}, err
}

// Edge is the host as the SSM has it.
func (h *Host) Edge() tunssm.Host {
	all := make([]tunssm.Queue, len(h.queues))
	for i, q := range h.queues {
		s := h.sockets[i]
		all[i] = tunssm.Queue{TUN: q, UDP: s, Wait: func() error { return raw.Either(q.Descriptor(), s.Descriptor()) }}
	}
	return tunssm.Host{Queue: all[0], More: all[1:], Route: h, Dial: newDialer(h.dial).Dial, MTU: h.mtu}
}

// Run runs the SSM that has the host's Edge, keeps the interface meanwhile as it has set it up, and puts back at the end
// what is on record.
func (h *Host) Run(ctx context.Context, ssm *tunssm.SSM) error {
	var tasks sync.WaitGroup
	tasks.Go(func() { h.keep(ctx, ssm.Reroute) })
	err := ssm.Run(ctx)
	h.watcher.Close()
	if h.sink != nil {
		h.sink.Close()
	}
	tasks.Wait()
	_, undone := h.journal.PutBack()
	return errors.Join(err, undone)
}

// Tell adds to the SSM's status what the host knows: how it reaches the subnets, and that the interface is not as the SSM
// has set it up, which is then not ready.
func (h *Host) Tell(st *tunssm.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tellGateway(st.Gateway)
	if h.fault != nil {
		st.Ready, st.Fault = false, h.fault.Error()
	}
}

// Way asks the kernel.
func (h *Host) Way(dst netip.Addr) (ifname string, prefix netip.Prefix, mtu int, err error) {
	return route.Way(dst)
}

// Candidates are read anew each time: interfaces come and go.
func (h *Host) Candidates() []netip.Addr {
	list, err := route.Candidates(h.name)
	if err != nil {
		return nil // the KDC still sees where we come from
	}
	return list
}

// Source asks the kernel, as Way does.
func (h *Host) Source(dst netip.Addr) (netip.Addr, error) { return route.SourceFor(dst) }

// Own are read anew each time, too.
func (h *Host) Own() []netip.Addr {
	list, err := route.Own()
	if err != nil {
		return nil
	}
	return list
}

// Enters asks the kernel, which knows of routes and rules that are not ours.
func (h *Host) Enters(dst netip.Addr) bool { return route.Enters(h.index, dst) }
