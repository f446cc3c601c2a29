package host

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"ssmnet/tunssm"
	"ssmnet/tunssm/route"
)

var (
	errDeclined   = fmt.Errorf("%w with 'ssm route del'", tunssm.ErrDeclined)
	errAcceptNone = fmt.Errorf("%w with --accept-routes=false", tunssm.ErrDeclined)
)

// Decision is what an operator wants of one route.
type Decision string

const (
	Accepted Decision = "accepted" // installed, also without Options.AcceptRoutes
	Declined Decision = "declined"
	Forced   Decision = "forced" // installed, whatever is in the way
)

// Decisions are the operator's, by prefix. A route that is not among them follows Options.AcceptRoutes.
type Decisions map[netip.Prefix]Decision

// Decide takes other decisions, for the next Offer.
func (h *Host) Decide(d Decisions) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decided = d
}

// Offer makes those of the offered routes that are to be installed the interface's, and no others.
func (h *Host) Offer(offered []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error {
	h.mu.Lock()
	defer h.mu.Unlock()
	refused := h.judge(offered, avoid)
	wanted := slices.DeleteFunc(slices.Clone(offered), func(p netip.Prefix) bool { return refused[p] != nil })
	for _, old := range h.offered {
		if slices.Contains(wanted, old) {
			continue
		}
		if err := route.Del(h.name, old); err != nil {
			refused[old] = err
		}
	}
	installed := h.offered // and put back where they get lost
	h.offered = nil
	for _, prefix := range wanted {
		if !slices.Contains(installed, prefix) {
			if err := route.Add(h.name, prefix); err != nil {
				refused[prefix] = err
				continue
			}
		}
		h.offered = append(h.offered, prefix)
	}
	return refused
}

// judge says why each of the offered routes that are not to be installed is not.
func (h *Host) judge(offered []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error {
	refused := map[netip.Prefix]error{}
	var careful []netip.Prefix
	for _, prefix := range offered {
		is := h.decided[prefix]
		switch {
		case is == Declined:
			refused[prefix] = errDeclined
		case is == "" && !h.accept:
			refused[prefix] = errAcceptNone
		case is != Forced && !h.force:
			careful = append(careful, prefix)
		}
	}
	conflicts, err := route.Check(careful, h.name, avoid)
	for _, prefix := range careful {
		if err != nil && !slices.Contains(h.offered, prefix) {
			refused[prefix] = err // what nothing is known of stays as it is
		}
	}
	maps.Copy(refused, conflicts)
	return refused
}
