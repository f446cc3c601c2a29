package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
	"ssmnet/tunssm/forward"
	"ssmnet/tunssm/route"
	"ssmnet/tunssm/undo"
)

var errNoWay = errors.New("no interface of this host leads there")

// gateway is what routes does of forwarding to the subnets behind the host.
type gateway struct {
	journal    *undo.Journal
	masquerade bool

	ways     route.Ways                // under routes.mu, as is all that follows
	warnings map[netip.Prefix][]string // of those that are forwarded to

	guarded   bool  // there is, or may be, a guard of our addresses
	unguarded error // why there is none, as logged
}

// Forward makes the host a gateway to the subnets that it reaches, and no longer to others: the kernel forwards, and where
// the operator wants it, masquerades. What stands in the way of one subnet leaves the others alone.
func (r *routes) Forward(subnets []netip.Prefix) map[netip.Prefix]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var notes []error
	ways, err := route.FindWays(r.name, subnets)
	if err == nil {
		r.ways = ways
		notes, err = r.forward(ways)
	}
	masqueraded := r.ways
	if !r.masquerade {
		masqueraded = nil
	}
	err = errors.Join(err, forward.Masquerade(r.journal, r.name, masqueraded))
	faults := map[netip.Prefix]error{}
	for _, subnet := range subnets {
		switch {
		case err != nil:
			faults[subnet] = err
		case len(ways[subnet]) == 0:
			faults[subnet] = errNoWay
		}
	}
	r.warn(subnets, faults, notes)
	return faults
}

// forward makes the kernel forward, never without the guard of this host's own addresses. It says what an operator has to
// know of how it forwards IPv6.
func (r *routes) forward(ways route.Ways) (notes []error, err error) {
	note := func(err, known error) error {
		if errors.Is(err, known) {
			notes = append(notes, known)
			return nil
		}
		return err
	}
	if len(ways.Interfaces(false)) > 0 {
		if err := note(r.guard(true), forward.ErrUnguarded); err != nil {
			return nil, err
		}
	}
	if err := note(forward.Switch(r.journal, r.name, ways), forward.ErrGlobal); err != nil {
		return nil, err
	}
	r.guardRouter()
	return notes, nil
}

// guard has nobody else speak as this host where it forwards IPv6.
func (r *routes) guard(forwards bool) error {
	if !forwards && !r.guarded {
		return nil
	}
	own := r.hosts
	if !forwards {
		own = nil
	}
	err := forward.Guard(r.journal, r.name, own)
	r.guarded = forwards || err != nil
	return err
}

// guardRouter is guard where it is not for the SSM that the host forwards, or no longer does. r.mu is held.
func (r *routes) guardRouter() {
	err := r.guard(forward.IPv6())
	if err != nil && (r.unguarded == nil || r.unguarded.Error() != err.Error()) {
		r.log.Warn("hosts behind this one may send into the tunnel as if they were it", "error", err)
	}
	r.unguarded = err
}

// warn finds out what may be in the way of the subnets that are forwarded to, and logs what is new of it.
func (r *routes) warn(subnets []netip.Prefix, faults map[netip.Prefix]error, notes []error) {
	before, known := r.warnings, map[bool][]string{}
	r.warnings = map[netip.Prefix][]string{}
	for _, subnet := range subnets {
		if faults[subnet] != nil {
			continue
		}
		ipv4 := subnet.Addr().Is4()
		list, looked := known[ipv4]
		if !looked {
			var err error
			if list, err = forward.Firewalls(r.name, ipv4); err != nil {
				list = append(list, "whether a firewall drops what is forwarded is not known: "+err.Error())
			}
			for _, note := range notes {
				if !ipv4 {
					list = append(list, note.Error())
				}
			}
			known[ipv4] = list
		}
		r.warnings[subnet] = list
		for _, w := range list {
			if !slices.Contains(before[subnet], w) {
				r.log.Warn("the way to a subnet may be barred", "subnet", subnet, "reason", w)
			}
		}
	}
}

// tellGateway adds what the host knows of the subnets.
func (r *routes) tellGateway(subnets []tunssm.SubnetStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range subnets {
		subnets[i].Interfaces = append(s.Interfaces, r.ways[s.Prefix]...)
		subnets[i].Warnings = append(s.Warnings, r.warnings[s.Prefix]...)
	}
}

func gatewayTable(st tunssm.Status) *cli.Table {
	t := cli.NewTable("SUBNET", "INTERFACE", "STATE")
	for _, s := range st.Gateway {
		state := s.State
		if s.Fault != "" {
			state += ": " + s.Fault
		}
		for _, w := range s.Warnings {
			state += "; " + w
		}
		t.Row(s.Prefix, strings.Join(s.Interfaces, ", "), state)
	}
	return t
}
