package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ssmnet/packet/control"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/udp"
)

// restorePause keeps us from a fight without end with another program that thinks the interface its own.
const restorePause = time.Second

var errDeclined = errors.New("declined with --accept-routes=false")

// routes is tunssm.Route on Linux.
type routes struct {
	name          string
	mtu           int
	accept, force bool
	log           *slog.Logger
	watcher       *route.Watcher

	// mu guards what follows: the SSM's acquirer sets it, keep puts it back, and operators ask for the fault.
	mu       sync.Mutex
	hosts    []netip.Prefix // addresses; nil before Configure has succeeded
	overlays []netip.Prefix // routed because they are the overlay
	offered  []netip.Prefix // routed because they were offered
	fault    error          // the interface has lost some of it
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
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts, r.overlays, r.fault = nil, nil, nil
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
		r.overlays = append(r.overlays, overlay)
	}
	r.hosts = hosts
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
	r.mu.Lock()
	defer r.mu.Unlock()
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

// lost says what the interface has not now and had before: nil where all is well.
func (r *routes) lost() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fault
}

// keep puts back what others take from the interface, until ctx ends or the watcher does.
func (r *routes) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-r.watcher.Changed:
			if !more {
				return
			}
		}
		if !r.restore() {
			continue
		}
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
	err := route.Intact(r.name, r.hosts, slices.Concat(r.overlays, r.offered))
	switch {
	case errors.Is(err, route.ErrNoInterface):
		return false // the SSM ends, or learns of it from its next read
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
	err := route.Configure(r.name, r.hosts, r.mtu)
	for _, prefix := range slices.Concat(r.overlays, r.offered) {
		err = errors.Join(err, route.Add(r.name, prefix))
	}
	return err
}
