package fake

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Route records what an SSM asks of the host's interface and routes.
type Route struct {
	mu         sync.Mutex
	state      RouteState
	candidates []netip.Addr
	refuse     map[netip.Prefix]error
	forced     []netip.Prefix
	led        []netip.Prefix
	leads      map[netip.Prefix]string // to other interfaces
	hidden     []netip.Addr
	cutOff     map[netip.Prefix]error
	fault      error
	path       int
}

// RouteState is what was asked last.
type RouteState struct {
	Configured int // how often
	Addresses  []netip.Addr
	Overlays   []netip.Prefix
	Routes     []netip.Prefix
	Avoid      []netip.Addr
	Forwarded  int            // how often
	Subnets    []netip.Prefix // to forward to
}

func newRoute(candidates ...netip.Addr) *Route {
	return &Route{
		candidates: candidates, refuse: map[netip.Prefix]error{}, path: 1500,
		leads: map[netip.Prefix]string{}, cutOff: map[netip.Prefix]error{},
	}
}

// State is what was asked last.
func (r *Route) State() RouteState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// FailConfigure makes Configure return err; nil heals it.
func (r *Route) FailConfigure(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = err
}

// Refuse makes Offer refuse the route because of err.
func (r *Route) Refuse(route netip.Prefix, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse[route] = err
}

// Accept makes Offer take the route again.
func (r *Route) Accept(route netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.refuse, route)
}

// Force makes Offer take the route whatever it covers.
func (r *Route) Force(route netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forced = append(r.forced, route)
}

// Move gives the host other interface addresses.
func (r *Route) Move(candidates ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.candidates = candidates
}

// Hide gives the host these addresses besides, which are no candidates, and no others.
func (r *Route) Hide(addresses ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hidden = addresses
}

// Configure records the addresses and overlays.
func (r *Route) Configure(addresses []netip.Addr, overlays []netip.Prefix) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Configured++
	r.state.Addresses, r.state.Overlays = slices.Clone(addresses), slices.Clone(overlays)
	return r.fault
}

var errCovers = errors.New("it covers an underlay address")

// Offer records the routes, but for those to be refused and those that cover one of avoid.
func (r *Route) Offer(routes []netip.Prefix, avoid []netip.Addr) map[netip.Prefix]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	refused := maps.Clone(r.refuse)
	for _, p := range routes {
		if refused[p] == nil && !slices.Contains(r.forced, p) && slices.ContainsFunc(avoid, p.Contains) {
			refused[p] = errCovers
		}
	}
	maps.DeleteFunc(refused, func(p netip.Prefix, _ error) bool { return !slices.Contains(routes, p) })
	r.state.Routes = slices.DeleteFunc(slices.Clone(routes), func(p netip.Prefix) bool { return refused[p] != nil })
	r.state.Avoid = slices.Clone(avoid)
	return refused
}

// CutOff makes Forward fail to forward to the subnet because of err; nil heals it.
func (r *Route) CutOff(subnet netip.Prefix, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutOff[subnet] = err
}

// Forward records the subnets.
func (r *Route) Forward(subnets []netip.Prefix) map[netip.Prefix]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Forwarded++
	r.state.Subnets = slices.Clone(subnets)
	faults := maps.Clone(r.cutOff)
	maps.DeleteFunc(faults, func(p netip.Prefix, err error) bool { return err == nil || !slices.Contains(subnets, p) })
	return faults
}

// Candidates are the host's underlay addresses.
func (r *Route) Candidates() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.candidates)
}

// Know gives every path of the host an MTU.
func (r *Route) Know(mtu int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.path = mtu
}

// Own are the host's addresses, outside and inside.
func (r *Route) Own() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.candidates, r.hidden, r.state.Addresses)
}

// Divert makes these, and no others, the routes into the interface that an operator has made.
func (r *Route) Divert(routes ...netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.led = routes
}

// Lead makes the host send what is for prefix by an interface of its own.
func (r *Route) Lead(prefix netip.Prefix, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leads[prefix] = to
}

var errNoWay = errors.New("no route there")

// networks are where hosts are (RFC 5737, RFC 3849).
var networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}

// Way is by the longest prefix: of the interface's own, and of those that Lead and Divert have said; else the networks'.
func (r *Route) Way(dst netip.Addr) (ifname string, route netip.Prefix, mtu int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ways := maps.Clone(r.leads)
	for _, p := range slices.Concat(r.state.Overlays, r.state.Routes, r.led) {
		if ways[p] == "" {
			ways[p] = tunName
		}
	}
	for p, by := range ways {
		if p.Contains(dst) && (ifname == "" || p.Bits() > route.Bits()) {
			ifname, route = by, p
		}
	}
	for _, network := range networks {
		if ifname == "" && network.Contains(dst) {
			ifname, route = "eth0", network
		}
	}
	if ifname == "" {
		return "", route, 0, errNoWay
	}
	return ifname, route, r.path, nil
}

// Enters is what Way says.
func (r *Route) Enters(dst netip.Addr) bool {
	by, _, _, err := r.Way(dst)
	return err == nil && by == tunName
}

// Source is the first candidate.
func (r *Route) Source(netip.Addr) (netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.candidates) == 0 {
		return netip.Addr{}, errNoWay
	}
	return r.candidates[0], nil
}
