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
	cutOff     map[netip.Prefix]error
	fault      error
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
	return &Route{candidates: candidates, refuse: map[netip.Prefix]error{}, cutOff: map[netip.Prefix]error{}}
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

// MTU is the usual one.
func (r *Route) MTU() int { return 1420 }
