package tunssm

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// The steps of a trace, in the order of a packet's way:
//
//	route     does the host send it into the tunnel, and if not, why
//	peer      who has the destination, and is it there
//	decision  what the KDC says of the flow
//	session   is there one that carries it
//	endpoint  where frames to the peer go
//	MTU       what fits into a packet
const (
	stepRoute    = "route"
	stepPeer     = "peer"
	stepDecision = "decision"
	stepSession  = "session"
	stepEndpoint = "endpoint"
	stepMTU      = "MTU"
)

// carried says that a live session carries the flow, whatever the KDC or the peer's control connection is about.
func (t *tracing) carried() bool { return t.session != nil && t.verdict == verdictSend }

func (t *tracing) routeStep(host Route) Step {
	ifname, prefix, _, err := host.Way(t.flow.Dst)
	offered, state := t.offered()
	s := Step{Name: stepRoute, State: Fault}
	switch {
	case t.isSelf():
		return Step{stepRoute, Moot, "nothing to route", ""}
	case err == nil && ifname == t.tun:
		return Step{stepRoute, Fine, fmt.Sprintf("%s leads into %s, from %s", prefix, t.tun, t.flow.Src), ""}
	case err != nil:
		s.Finding = "this host has no route there"
	default:
		s.Finding = fmt.Sprintf("%s leads to %s, not into %s", prefix, ifname, t.tun)
	}
	switch {
	case !offered.IsValid():
		s.Finding += ", and the KDC offers none"
		s.Advice = "a subnet is offered where it is a peer's and policy lets this host use it: whoever runs the KDC can see to that"
	case state.State == "installed" && err != nil:
		s.Advice = fmt.Sprintf("%s may be down, or have lost an address: see 'ssm status' and 'ip addr show %s'", t.tun, t.tun)
	case state.State == "installed":
		s.Advice = fmt.Sprintf("remove it, or narrow it: it wins over %s, which leads into %s", offered, t.tun)
	case state.State == "declined":
		s.Finding += fmt.Sprintf("; %s is offered, and %s", offered, state.Refused)
		s.Advice = fmt.Sprintf("take it back with 'ssm route add %s'", offered)
	default:
		s.Finding += fmt.Sprintf("; %s is offered, and refused: %s", offered, state.Refused)
		s.Advice = fmt.Sprintf("remove what is in the way, or install it all the same: 'ssm route add %s --force'", offered)
	}
	return s
}

// offered is the longest prefix that leads, or would lead, the flow into the tunnel.
func (t *tracing) offered() (best netip.Prefix, state RouteStatus) {
	take := func(p netip.Prefix, s RouteStatus) {
		if p.Contains(t.flow.Dst) && (!best.IsValid() || p.Bits() > best.Bits()) {
			best, state = p, s
		}
	}
	for _, p := range t.config.Overlays {
		take(p, RouteStatus{Prefix: p, State: "installed"})
	}
	for _, r := range t.routes {
		take(r.Prefix, r)
	}
	return best, state
}

func (t *tracing) peerStep() Step {
	name, prefixes := t.reply.Peer, t.reply.Prefixes
	if name == "" {
		name = t.peer
	}
	if len(prefixes) == 0 {
		prefixes = t.prefixes
	}
	has := name
	for _, p := range prefixes {
		if p.Contains(t.flow.Dst) {
			has = fmt.Sprintf("%s has %s", name, p)
		}
	}
	switch reason := t.reply.Reason; {
	case packet.Covers(t.config.Subnets, t.flow.Dst):
		return Step{stepPeer, Fault, t.To + " is in a subnet of this host's own", "no tunnel leads there: see to this host's own network"}
	case t.isSelf():
		return Step{stepPeer, Fault, t.To + " is this host itself", "name another peer, or an address of one"}
	case name == "" && reason == control.Unknown:
		return Step{stepPeer, Fault, "no peer has " + t.To, "'kdc peer list' has the peers, their addresses and subnets"}
	case name == "" && reason == control.Denied:
		return Step{stepPeer, Moot, "not told: policy lets this host have nothing to do with whoever has " + t.To, ""}
	case name == "":
		return Step{stepPeer, Moot, "not known", ""}
	case reason == control.Offline && !t.carried():
		return Step{stepPeer, Fault, has + ", and is connected to no KDC", "see 'ssm status' on " + name}
	case reason == control.Offline:
		has += "; connected to no KDC"
	}
	return Step{stepPeer, Fine, has, ""}
}

func (t *tracing) decisionStep() Step {
	ask := "whoever runs the KDC can change that: 'kdc policy apply', 'kdc peer resume'"
	switch r := t.reply; {
	case r.Reason == control.Unknown || t.isSelf():
		return Step{stepDecision, Moot, "nothing to decide", ""}
	case r.Permitted && r.Replies:
		return Step{stepDecision, Fine, fmt.Sprintf("grant %s permits it, as replies to what %s starts", r.Grant, r.Peer), ""}
	case r.Permitted:
		return Step{stepDecision, Fine, fmt.Sprintf("grant %s permits it", r.Grant), ""}
	case r.Reason == control.Suspended:
		return Step{stepDecision, Fault, "denied: " + r.Peer + " is suspended", ask}
	case r.Reason == control.Denied && r.Grant != "":
		return Step{stepDecision, Fault,
			fmt.Sprintf("denied: grant %s would permit it, and is disabled or past its until", r.Grant), ask}
	case r.Reason == control.Denied && t.flow.Dst.IsValid():
		return Step{stepDecision, Fault, fmt.Sprintf("denied: no grant permits %s from %s to %s", t.service(), t.flow.Src, t.flow.Dst), ask}
	case r.Reason == control.Denied:
		return Step{stepDecision, Fault, "denied: no grant permits anything between the two", ask}
	case t.carried():
		return Step{stepDecision, Moot, fmt.Sprintf("%s; the session stands until its grace is over", t.unanswered()), ""}
	}
	return Step{stepDecision, Fault, t.unanswered(), "see 'ssm status'"}
}

// unanswered says why there is no decision.
func (t *tracing) unanswered() string {
	switch {
	case t.reply.Reason != control.NoKDC:
		return "no KDC can decide now: " + t.reply.Reason.String()
	case t.noKDC != "":
		return "no KDC answers: " + t.noKDC
	}
	return "no KDC answers"
}

func (t *tracing) sessionStep() Step {
	switch s := t.session; {
	case s == nil && t.reply.Permitted:
		return Step{stepSession, Fine, "none: the next packet acquires one", ""}
	case s == nil:
		return Step{stepSession, Moot, "none", ""}
	case t.verdict == verdictHold && t.reply.Permitted:
		return Step{stepSession, Fine, s.brief() + ", does not carry it: the next packet acquires another", ""}
	case t.verdict == verdictRefuse && t.reply.Permitted:
		return Step{stepSession, Fault, s.brief() + ", does not carry it",
			fmt.Sprintf("'ssm session close %s' ends it, and the next packet acquires another", s.Peer)}
	case t.verdict != verdictSend:
		return Step{stepSession, Moot, s.brief() + ", does not carry it", ""}
	default:
		return Step{stepSession, Fine, s.brief() + ", carries it", ""}
	}
}

// brief is the session in a few words.
func (s *SessionStatus) brief() string {
	text := fmt.Sprintf("%.8s with %s, %s old", s.ID, s.Peer, inSeconds(s.Age))
	if s.State != "sending" {
		text += ", " + s.State
	}
	return text
}

func inSeconds(s float64) time.Duration { return time.Duration(s) * time.Second }

func (t *tracing) endpointStep(host Route) Step {
	switch s := t.session; {
	case s == nil:
		return Step{stepEndpoint, Moot, "not known before there is a session", ""}
	case s.Endpoint.IsValid() && host.Enters(s.Endpoint.Addr()):
		return Step{stepEndpoint, Fault, fmt.Sprintf("%s, which this host routes into the tunnel, %s", s.Endpoint, t.tun),
			fmt.Sprintf("see 'ip route get %s', and remove that route", s.Endpoint.Addr())}
	case s.Heard.IsZero():
		var all []string
		for _, e := range t.endpoints {
			all = append(all, e.String())
		}
		step := Step{stepEndpoint, Fine, "tries " + strings.Join(all, ", ") + "; none has answered yet", ""}
		if s.Age > answersWithin.Seconds() {
			step.State, step.Advice = Fault, "one of the two hosts must be reachable by UDP: see to the firewalls between them"
		}
		return step
	default:
		return Step{stepEndpoint, Fine, fmt.Sprintf("%s, heard from %s ago", s.Endpoint, time.Since(s.Heard).Round(time.Second)), ""}
	}
}

// answersWithin is how long a peer that is there may take to answer a session's first frame.
const answersWithin = 2 * time.Second

// mtuStep says what a packet may have, inside and on the way to the endpoint.
func (t *tracing) mtuStep(host Route) Step {
	finding := fmt.Sprintf("%d bytes into %s", t.mtu, t.tun)
	if t.session == nil || !t.session.Endpoint.IsValid() {
		return Step{stepMTU, Fine, finding, ""}
	}
	to := t.session.Endpoint.Addr()
	ifname, _, under, err := host.Way(to)
	if ifname == t.tun {
		return Step{stepMTU, Fine, finding, ""}
	}
	if err != nil {
		return Step{stepMTU, Fault, fmt.Sprintf("%s; this host has no route to %s", finding, to), "see to this host's own network"}
	}
	switch sealed := t.session.MTU + outer(t.session.Endpoint); {
	case t.session.Fragments:
		finding += fmt.Sprintf(", %d to %s, whose way carries less: the longest go in fragments", t.session.MTU, to)
	case t.session.MTU < t.mtu:
		finding += fmt.Sprintf(", %d to %s, %d sealed, which is what the way was found to carry", t.session.MTU, to, sealed)
	default:
		finding += fmt.Sprintf(", %d sealed; the way to %s carries %d", sealed, to, under)
	}
	return Step{stepMTU, Fine, finding, ""}
}
