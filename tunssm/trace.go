package tunssm

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// Query is a flow whose way is to be traced.
type Query struct {
	To       string     // an address or the name of a peer, which stands for its overlay address
	From     netip.Addr // zero: this host's own
	IPv6     bool       // which of the addresses of a peer by name
	Protocol packet.Protocol
	Port     uint16
}

// ephemeral stands for the port that the host would choose, the first of the dynamic ones (RFC 6335, section 6).
const ephemeral = 49152

// Trace is what a flow would meet on its way, as far as it can be known without sending anything. Its JSON is the trace
// command's (schema ssmnet.trace/v1).
type Trace struct {
	To      string     `json:"to"` // as it was asked for
	Peer    string     `json:"peer,omitempty"`
	Src     netip.Addr `json:"src,omitzero"`
	Dst     netip.Addr `json:"dst,omitzero"`
	Service string     `json:"service"`
	Outcome Outcome    `json:"outcome"`
	Steps   []Step     `json:"steps"`
}

// Outcome is what a trace comes to. Of several faults it is the one that an operator must see to first.
type Outcome string

const (
	Reachable   Outcome = "reachable"   // as far as is known
	Nowhere     Outcome = "unknown"     // no peer has the destination
	Prohibited  Outcome = "denied"      // by policy
	Unavailable Outcome = "unavailable" // no KDC answers, or the peer is not there
	Misrouted   Outcome = "misrouted"   // this host would not send it into the tunnel
)

// Step is one finding on the way.
type Step struct {
	Name    string `json:"step"`
	State   State  `json:"state"`
	Finding string `json:"finding"`
	Advice  string `json:"advice,omitempty"` // what to do about a fault
}

// State says how a step came out.
type State string

const (
	Fine  State = "ok"
	Fault State = "fault"
	Moot  State = "moot" // it cannot be known, or makes no difference
)

// tracing is what the steps are made of.
type tracing struct {
	Query
	flow  packet.Flow // no addresses: none can be known
	reply control.LookupReply
	view
}

// view is what this SSM itself knows of a flow.
type view struct {
	name      string // of this host
	tun       string
	mtu       int
	config    control.Config
	noKDC     string // why none can be asked
	routes    []RouteStatus
	peer      string // that has the destination; empty where it is not known
	prefixes  []netip.Prefix
	session   *SessionStatus // that this side would send on
	verdict   verdict        // on the flow
	endpoints []netip.AddrPort
}

// Trace finds out what would become of a flow. It sends no packet and makes no session.
func (s *SSM) Trace(ctx context.Context, q Query) (Trace, error) {
	t := tracing{Query: q}
	if err := s.observe(&t); err != nil {
		return Trace{}, err
	}
	dst, err := netip.ParseAddr(q.To)
	if err != nil {
		if dst, err = s.resolve(ctx, &t); err != nil {
			return Trace{}, err
		}
	}
	if dst = dst.Unmap().WithZone(""); !dst.IsValid() {
		return t.conclude(t.peerStep(), t.decisionStep()), nil
	}
	src, err := t.source(dst)
	if err != nil {
		return Trace{}, err
	}
	t.flow = packet.Flow{Protocol: q.Protocol, Class: packet.Complete, Src: src, Dst: dst, DstPort: q.Port}
	if q.Protocol.HasPorts() {
		t.flow.SrcPort = ephemeral
	}
	if q.Protocol == packet.ICMP && dst.Is6() {
		t.flow.Protocol = packet.ICMPv6
	}
	if t.reply, err = s.lookup(ctx, &control.Lookup{Flow: &t.flow}); err != nil {
		return Trace{}, err
	}
	if err := s.observe(&t); err != nil { // anew, now that the flow is known
		return Trace{}, err
	}
	route := s.data.host.Route
	return t.conclude(t.routeStep(route), t.peerStep(), t.decisionStep(), t.sessionStep(), t.endpointStep(route),
		t.mtuStep(route)), nil
}

// observe fills the view.
func (s *SSM) observe(t *tracing) error {
	return s.onAcquirer(func(a *acquirer) error {
		st := a.status()
		t.view = view{name: a.name, tun: st.Interface, mtu: st.MTU, config: a.config, noKDC: a.whyNoKDC(), routes: st.Routes}
		if !st.Ready {
			return fmt.Errorf("%w: %s", ErrNotReady, cmp.Or(st.Fault, t.noKDC, "no KDC has welcomed this host yet"))
		}
		p := a.peers[t.To]
		if t.flow.Dst.IsValid() {
			p = a.table.Load().owner(t.flow.Dst)
		}
		if p == nil {
			return nil
		}
		t.peer, t.prefixes = p.name, p.prefixes
		if x := p.sending.Load(); x != nil {
			one := x.status()
			t.session, t.endpoints = &one, x.everywhere()
			_, t.verdict = a.table.Load().lookup(packet.Packet{Flow: t.flow}, nil)
		}
		return nil
	})
}

// whyNoKDC says why nobody can be asked, empty where somebody can.
func (a *acquirer) whyNoKDC() string {
	why := "this host knows no KDC"
	for _, l := range a.links.list {
		switch {
		case l.conn != nil && !l.detached:
			return ""
		case l.conn != nil:
			why = l.address + " is detached from its store"
		case l.fault != nil:
			why = fmt.Sprintf("%s: %v", l.address, l.fault)
		}
	}
	return why
}

// resolve finds the address that the name of a peer stands for; none where it is not to be had.
func (s *SSM) resolve(ctx context.Context, t *tracing) (addr netip.Addr, err error) {
	if !control.ValidName(t.To) || t.To == t.name {
		t.reply.Reason = control.Unknown
		return addr, nil
	}
	if t.reply, err = s.lookup(ctx, &control.Lookup{Name: t.To}); err != nil {
		return addr, err
	}
	addresses := t.reply.Addresses
	if t.reply.Reason == control.NoKDC {
		for _, p := range t.prefixes { // as the newest session has them, the overlay addresses first
			if p.IsSingleIP() {
				addresses = append(addresses, p.Addr())
			}
		}
	}
	for _, a := range addresses {
		if a.Is6() == t.IPv6 {
			return a, nil
		}
	}
	if len(addresses) > 0 {
		return addr, fmt.Errorf("%w: %s has no %s address in the overlay", ErrQuery, t.To, family(!t.IPv6))
	}
	return addr, nil
}

func family(ipv4 bool) string {
	if ipv4 {
		return "IPv4"
	}
	return "IPv6"
}

// source is the inner address that the flow comes from.
func (t *tracing) source(dst netip.Addr) (netip.Addr, error) {
	switch own := t.config.Addresses; {
	case !t.From.IsValid():
		for _, a := range own {
			if a.Is4() == dst.Is4() {
				return a, nil
			}
		}
		return dst, fmt.Errorf("%w: this host has no %s address in the overlay", ErrQuery, family(dst.Is4()))
	case t.From.Is4() != dst.Is4():
		return dst, fmt.Errorf("%w: from %s to %s: one is IPv4, the other IPv6", ErrQuery, t.From, dst)
	case !slices.Contains(own, t.From) && !packet.Covers(t.config.Subnets, t.From):
		return dst, fmt.Errorf("%w: %s is neither an overlay address of this host nor in a subnet of its own", ErrQuery, t.From)
	}
	return t.From, nil
}

// conclude makes the answer of the steps.
func (t *tracing) conclude(steps ...Step) Trace {
	tr := Trace{To: t.To, Peer: t.peer, Src: t.flow.Src, Dst: t.flow.Dst, Service: t.service(), Steps: steps}
	if tr.Peer == "" {
		tr.Peer = t.reply.Peer
	}
	tr.Outcome = t.outcome(steps)
	return tr
}

func (t *tracing) outcome(steps []Step) Outcome {
	misrouted := slices.ContainsFunc(steps, func(s Step) bool { return s.Name == stepRoute && s.State == Fault })
	faulty := slices.ContainsFunc(steps, func(s Step) bool { return s.State == Fault })
	switch reason := t.reply.Reason; {
	case reason == control.Unknown && t.peer == "" || t.isSelf():
		return Nowhere
	case reason == control.Denied, reason == control.Suspended:
		return Prohibited
	case misrouted:
		return Misrouted
	case faulty:
		return Unavailable
	}
	return Reachable
}

// service is the flow's, as policy writes it.
func (t *tracing) service() string {
	if t.Protocol.HasPorts() {
		return fmt.Sprintf("%s/%d", t.Protocol, t.Port)
	}
	return t.Protocol.String()
}

// isSelf says that the destination is this host.
func (t *tracing) isSelf() bool {
	return t.To == t.name || slices.Contains(t.config.Addresses, t.flow.Dst) || packet.Covers(t.config.Subnets, t.flow.Dst)
}
