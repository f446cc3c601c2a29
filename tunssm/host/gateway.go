package host

import (
	"errors"
	"net/netip"
	"slices"

	"ssmnet/tunssm"
	"ssmnet/tunssm/forward"
	"ssmnet/tunssm/route"
)

var errNoWay = errors.New("no interface of this host leads there")

// gateway is what a host does of forwarding to the subnets behind the host.
type gateway struct {
	masquerade bool

	ways     route.Ways                // under Host.mu, as is all that follows
	warnings map[netip.Prefix][]string // of those that are forwarded to

	guarded   bool  // there is, or may be, a guard of our addresses
	unguarded error // why there is none, as logged
}

// Forward makes the host a gateway to the subnets that it reaches, and no longer to others: the kernel forwards, and where
// the operator wants it, masquerades. What stands in the way of one subnet leaves the others alone.
func (h *Host) Forward(subnets []netip.Prefix) map[netip.Prefix]error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var notes []error
	ways, err := route.FindWays(h.name, subnets)
	if err == nil {
		h.ways = ways
		notes, err = h.forward(ways)
	}
	masqueraded := h.ways
	if !h.masquerade {
		masqueraded = nil
	}
	err = errors.Join(err, forward.Masquerade(h.journal, h.name, masqueraded))
	faults := map[netip.Prefix]error{}
	for _, subnet := range subnets {
		switch {
		case err != nil:
			faults[subnet] = err
		case len(ways[subnet]) == 0:
			faults[subnet] = errNoWay
		}
	}
	h.warn(subnets, faults, notes)
	return faults
}

// forward makes the kernel forward, never without the guard of this host's own addresses. It says what an operator has to
// know of how it forwards IPv6.
func (h *Host) forward(ways route.Ways) (notes []error, err error) {
	note := func(err, known error) error {
		if errors.Is(err, known) {
			notes = append(notes, known)
			return nil
		}
		return err
	}
	if len(ways.Interfaces(false)) > 0 {
		if err := note(h.guard(true), forward.ErrUnguarded); err != nil {
			return nil, err
		}
	}
	if err := note(forward.Switch(h.journal, h.name, ways), forward.ErrGlobal); err != nil {
		return nil, err
	}
	h.guardRouter()
	return notes, nil
}

// guard has nobody else speak as this host where it forwards IPv6.
func (h *Host) guard(forwards bool) error {
	if !forwards && !h.guarded {
		return nil
	}
	own := h.hosts
	if !forwards {
		own = nil
	}
	err := forward.Guard(h.journal, h.name, own)
	h.guarded = forwards || err != nil
	return err
}

// guardRouter is guard where it is not for the SSM that the host forwards, or no longer does. h.mu is held.
func (h *Host) guardRouter() {
	err := h.guard(forward.IPv6())
	if err != nil && (h.unguarded == nil || h.unguarded.Error() != err.Error()) {
		h.log.Warn("hosts behind this one may send into the tunnel as if they were it", "error", err)
	}
	h.unguarded = err
}

// warn finds out what may be in the way of the subnets that are forwarded to, and logs what is new of it.
func (h *Host) warn(subnets []netip.Prefix, faults map[netip.Prefix]error, notes []error) {
	before, known := h.warnings, map[bool][]string{}
	h.warnings = map[netip.Prefix][]string{}
	for _, subnet := range subnets {
		if faults[subnet] != nil {
			continue
		}
		ipv4 := subnet.Addr().Is4()
		list, looked := known[ipv4]
		if !looked {
			var err error
			if list, err = forward.Firewalls(h.name, ipv4); err != nil {
				list = append(list, "whether a firewall drops what is forwarded is not known: "+err.Error())
			}
			for _, note := range notes {
				if !ipv4 {
					list = append(list, note.Error())
				}
			}
			known[ipv4] = list
		}
		h.warnings[subnet] = list
		for _, w := range list {
			if !slices.Contains(before[subnet], w) {
				h.log.Warn("the way to a subnet may be barred", "subnet", subnet, "reason", w)
			}
		}
	}
}

// tellGateway adds what the host knows of the subnets. h.mu is held.
func (h *Host) tellGateway(subnets []tunssm.SubnetStatus) {
	for i, s := range subnets {
		subnets[i].Interfaces = append(s.Interfaces, h.ways[s.Prefix]...)
		subnets[i].Warnings = append(s.Warnings, h.warnings[s.Prefix]...)
	}
}
