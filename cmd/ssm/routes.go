package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
	"ssmnet/tunssm/bench"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/undo"
)

// restorePause keeps us from a fight without end with another program that thinks the interface its own, and from doing
// nothing but look where the network does not come to rest.
const restorePause = time.Second

var (
	errDeclined   = fmt.Errorf("%w with 'ssm route del'", tunssm.ErrDeclined)
	errInside     = errors.New("the host routes it into the tunnel,")
	errLinkLocal  = errors.New("a link-local address is none by which to reach a KDC")
	errAcceptNone = fmt.Errorf("%w with --accept-routes=false", tunssm.ErrDeclined)
)

// routes is tunssm.Route on Linux.
type routes struct {
	name          string
	index         int // of the interface
	mtu           int
	accept, force bool
	log           *slog.Logger
	watcher       *route.Watcher
	sink          *bench.Sink   // nil: none is wanted
	adopted       *undo.Journal // has on record how the interface was found; nil for one of our own
	gateway

	// mu guards what follows: the SSM's acquirer sets it, keep puts it back, operators decide and ask for the fault.
	mu       sync.Mutex
	decided  decisions
	hosts    []netip.Prefix // addresses; nil before Configure has succeeded
	overlays []netip.Prefix // routed because they are the overlay
	offered  []netip.Prefix // routed because they were offered
	fault    error          // the interface has lost some of it
}

func (r *routes) Way(dst netip.Addr) (ifname string, prefix netip.Prefix, mtu int, err error) {
	return route.Way(dst)
}

// Candidates are read anew each time: interfaces come and go.
func (r *routes) Candidates() []netip.Addr {
	list, err := route.Candidates(r.name)
	if err != nil {
		return nil // the KDC still sees where we come from
	}
	return list
}

// Source asks the kernel, as Way does.
func (r *routes) Source(dst netip.Addr) (netip.Addr, error) { return route.SourceFor(dst) }

// Own are read anew each time, too.
func (r *routes) Own() []netip.Addr {
	list, err := route.Own()
	if err != nil {
		return nil
	}
	return list
}

// Enters asks the kernel, which knows of routes and rules that are not ours.
func (r *routes) Enters(dst netip.Addr) bool { return route.Enters(r.index, dst) }

// dial opens a control connection, but not through the tunnel: there its segments would wait for the session that they
// are to bring. It looks at each address that a name has.
func (r *routes) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: func(network, to string, c syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		switch {
		case err != nil:
			return err
		case at.Addr().IsLinkLocalUnicast():
			return errLinkLocal
		case r.Enters(at.Addr().Unmap()):
			return fmt.Errorf("%w %s: see 'ip route get %s'", errInside, r.name, at.Addr())
		}
		return daemon.Persistent(network, to, c)
	}}
	return d.DialContext(ctx, "tcp", address)
}

func (r *routes) Configure(addresses []netip.Addr, overlays []netip.Prefix) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts, r.overlays, r.fault = nil, nil, nil
	hosts := make([]netip.Prefix, len(addresses))
	for i, a := range addresses {
		hosts[i] = netip.PrefixFrom(a, a.BitLen())
	}
	if r.adopted != nil {
		if err := r.adopted.Addresses(r.name, hosts); err != nil {
			return err
		}
	}
	hosts, err := r.setUp(hosts)
	if err != nil {
		return err
	}
	for _, overlay := range overlays {
		if homeless(hosts, overlay) {
			continue
		}
		if err := r.add(overlay); err != nil {
			return fmt.Errorf("overlay %s: %w", overlay, err)
		}
		r.overlays = append(r.overlays, overlay)
	}
	for _, prefix := range r.offered { // which the kernel may have dropped with an address
		if err := route.Add(r.name, prefix); err != nil {
			return err
		}
	}
	r.hosts = hosts
	r.guardRouter()
	if r.sink != nil {
		r.sink.Listen(r.name, addresses)
	}
	return nil
}

// setUp gives the interface its addresses, and says which: where the host has no IPv6, those of IPv4 alone.
func (r *routes) setUp(hosts []netip.Prefix) ([]netip.Prefix, error) {
	err := route.Configure(r.name, hosts, r.mtu)
	if !errors.Is(err, route.ErrNoIPv6) {
		return hosts, err
	}
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(p netip.Prefix) bool { return p.Addr().Is6() })
	if len(hosts) == 0 {
		return nil, err
	}
	r.log.Warn("the interface goes without IPv6", "interface", r.name, "error", err)
	return hosts, route.Configure(r.name, hosts, r.mtu)
}

// homeless says that hosts have no address of the prefix's family, to send from to what is in it.
func homeless(hosts []netip.Prefix, prefix netip.Prefix) bool {
	return !slices.ContainsFunc(hosts, func(p netip.Prefix) bool { return p.Addr().Is4() == prefix.Addr().Is4() })
}

// add routes an overlay into the interface.
func (r *routes) add(overlay netip.Prefix) error {
	if !r.force {
		conflicts, err := route.Check([]netip.Prefix{overlay}, r.name, nil)
		if err := cmp.Or(err, conflicts[overlay]); err != nil {
			return err
		}
	}
	return route.Add(r.name, overlay)
}

// Offer makes those of the offered routes that are to be installed the interface's, and no others.
func (r *routes) Offer(offered []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused := r.judge(offered, avoid)
	wanted := slices.DeleteFunc(slices.Clone(offered), func(p netip.Prefix) bool { return refused[p] != nil })
	for _, old := range r.offered {
		if slices.Contains(wanted, old) {
			continue
		}
		if err := route.Del(r.name, old); err != nil {
			refused[old] = err
		}
	}
	installed := r.offered // and put back where they get lost
	r.offered = nil
	for _, prefix := range wanted {
		if !slices.Contains(installed, prefix) {
			if err := route.Add(r.name, prefix); err != nil {
				refused[prefix] = err
				continue
			}
		}
		r.offered = append(r.offered, prefix)
	}
	return refused
}

// judge says why each of the offered routes that are not to be installed is not.
func (r *routes) judge(offered []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error {
	refused := map[netip.Prefix]error{}
	var careful []netip.Prefix
	for _, prefix := range offered {
		is := r.decided[prefix]
		switch {
		case is == declined:
			refused[prefix] = errDeclined
		case is == "" && !r.accept:
			refused[prefix] = errAcceptNone
		case is != forced && !r.force:
			careful = append(careful, prefix)
		}
	}
	conflicts, err := route.Check(careful, r.name, avoid)
	for _, prefix := range careful {
		if err != nil && !slices.Contains(r.offered, prefix) {
			refused[prefix] = err // what nothing is known of stays as it is
		}
	}
	maps.Copy(refused, conflicts)
	return refused
}

// decide takes other decisions, for the next Offer.
func (r *routes) decide(d decisions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decided = d
}

// lost says what the interface has not now and had before: nil where all is well.
func (r *routes) lost() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault
}

// keep puts back what others take from the interface, and has the offered routes judged anew by what the network has
// become, until ctx ends or the watcher does.
func (r *routes) keep(ctx context.Context, reroute func() error) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-r.watcher.Changed:
			if !more {
				return
			}
		}
		r.restore()
		_ = reroute() // the error is that the SSM ends
		select {
		case <-ctx.Done():
			return
		case <-time.After(restorePause):
		}
	}
}

// restore looks at the interface and, where it is up but has lost something, sets it up again. It leaves one that is down
// as it is, for whoever did that meant it: `ip link set down` and up again is how people make an interface start anew.
func (r *routes) restore() (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hosts == nil {
		return false
	}
	r.guardRouter()
	err := route.Intact(r.name, r.hosts, slices.Concat(r.overlays, r.offered))
	switch {
	case errors.Is(err, route.ErrNoInterface):
		r.fault = fmt.Errorf("%w: renamed or moved away? name it so again, or start the SSM anew", err) // removed, it ends
		return false
	case errors.Is(err, route.ErrDown):
		if r.fault == nil {
			r.log.Warn("the interface was taken down", "interface", r.name)
		}
		r.fault = err
		return false
	case err == nil:
		r.fault = nil
		return false
	}
	if r.fault = r.reinstall(); r.fault != nil {
		r.log.Error("cannot put back what the interface has lost", "interface", r.name, "lost", err, "error", r.fault)
		return true
	}
	r.log.Warn("put back what the interface had lost", "interface", r.name, "lost", err)
	return true
}

// reinstall does without route.Check, which has let these routes pass.
func (r *routes) reinstall() error {
	hosts, err := r.setUp(r.hosts)
	if err == nil && len(hosts) < len(r.hosts) {
		homeless := func(p netip.Prefix) bool { return homeless(hosts, p) }
		r.hosts = hosts
		r.overlays, r.offered = slices.DeleteFunc(r.overlays, homeless), slices.DeleteFunc(r.offered, homeless)
	}
	for _, prefix := range slices.Concat(r.overlays, r.offered) {
		err = errors.Join(err, route.Add(r.name, prefix))
	}
	return err
}
