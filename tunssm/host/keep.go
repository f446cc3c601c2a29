package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ssmnet/tunssm/route"
)

// restorePause keeps us from a fight without end with another program that thinks the interface its own, and from doing
// nothing but look where the network does not come to rest.
const restorePause = time.Second

// keep puts back what others take from the interface, and has the offered routes judged anew by what the network has
// become, until ctx ends or the watcher does.
func (h *Host) keep(ctx context.Context, reroute func() error) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-h.watcher.Changed:
			if !more {
				return
			}
		}
		h.restore()
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
func (h *Host) restore() (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts == nil {
		return false
	}
	h.guardRouter()
	err := route.Intact(h.name, h.hosts, slices.Concat(h.overlays, h.offered))
	switch {
	case errors.Is(err, route.ErrNoInterface):
		h.fault = fmt.Errorf("%w: renamed or moved away? name it so again, or start the SSM anew", err) // removed, it ends
		return false
	case errors.Is(err, route.ErrDown):
		if h.fault == nil {
			h.log.Warn("the interface was taken down", "interface", h.name)
		}
		h.fault = err
		return false
	case err == nil:
		h.fault = nil
		return false
	}
	if h.fault = h.reinstall(); h.fault != nil {
		h.log.Error("cannot put back what the interface has lost", "interface", h.name, "lost", err, "error", h.fault)
		return true
	}
	h.log.Warn("put back what the interface had lost", "interface", h.name, "lost", err)
	return true
}

// reinstall does without route.Check, which has let these routes pass.
func (h *Host) reinstall() error {
	hosts, err := h.setUp(h.hosts)
	if err == nil && len(hosts) < len(h.hosts) {
		homeless := func(p netip.Prefix) bool { return homeless(hosts, p) }
		h.hosts = hosts
		h.overlays, h.offered = slices.DeleteFunc(h.overlays, homeless), slices.DeleteFunc(h.offered, homeless)
	}
	for _, prefix := range slices.Concat(h.overlays, h.offered) {
		err = errors.Join(err, route.Add(h.name, prefix))
	}
	return err
}
