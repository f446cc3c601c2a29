package tunssm

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet/control"
)

// Status is the SSM at a glance. Its JSON is the status command's (schema ssmnet.status/v1).
type Status struct {
	Name      string            `json:"name"`
	Ready     bool              `json:"ready"` // welcomed, and the interface is up
	Interface string            `json:"interface"`
	Fault     string            `json:"fault,omitempty"` // why the interface is not up
	MTU       int               `json:"mtu"`
	Addresses []netip.Addr      `json:"addresses"`
	Subnets   []netip.Prefix    `json:"subnets"`
	Port      uint16            `json:"port"`
	Boot      control.Boot      `json:"boot"`
	Service   string            `json:"service,omitempty"` // the systemd unit that runs it
	AsOf      control.AsOf      `json:"as_of"`
	Uptime    float64           `json:"uptime_seconds"`
	KDCs      []KDCStatus       `json:"kdcs"`
	Routes    []RouteStatus     `json:"routes"`
	CPU       float64           `json:"cpu_seconds"` // of the process
	Gateway   []SubnetStatus    `json:"gateway"`     // to each of Subnets
	Held      int               `json:"held_bytes"`
	Rx        TrafficStatus     `json:"rx"` // of this run, sessions that are destroyed included
	Tx        TrafficStatus     `json:"tx"`
	Outbound  OutboundStatus    `json:"outbound"`
	Inbound   InboundStatus     `json:"inbound"`
	Drops     map[string]uint64 `json:"drops"`
	Sessions  []SessionStatus   `json:"sessions"`
}

// KDCStatus is one KDC. Fault says why it is not connected.
type KDCStatus struct {
	Address   string  `json:"address"`
	Connected bool    `json:"connected"`
	Detached  bool    `json:"detached"`
	For       float64 `json:"for_seconds"`
	Silent    float64 `json:"silent_seconds"` // since a ping that nothing has answered; 0 for none
	Fault     string  `json:"fault,omitempty"`
}

// RouteStatus is one offered route. Refused says why it was not installed, declined routes among them.
type RouteStatus struct {
	Prefix  netip.Prefix `json:"prefix"`
	State   string       `json:"state"`          // installed, declined, refused
	Peer    string       `json:"peer,omitempty"` // that it leads to, where a session has told
	Refused string       `json:"refused,omitempty"`
}

// SubnetStatus is how the host forwards to one of the subnets behind it. Fault says why it does not. The host adds the
// interfaces by which it reaches the subnet, and what may be in the way although it forwards.
type SubnetStatus struct {
	Prefix     netip.Prefix `json:"prefix"`
	State      string       `json:"state"` // forwarding, failed
	Interfaces []string     `json:"interfaces"`
	Fault      string       `json:"fault,omitempty"`
	Warnings   []string     `json:"warnings"`
}

// SessionStatus is one session.
type SessionStatus struct {
	ID        control.SessionID `json:"id"`
	Peer      string            `json:"peer"`
	Role      string            `json:"role"`  // requester or responder
	State     string            `json:"state"` // sending, confirmed, provisional, superseded, closing
	Endpoint  netip.AddrPort    `json:"endpoint,omitzero"`
	MTU       int               `json:"mtu"`        // the longest packet that goes to the peer
	Fragments bool              `json:"fragmented"` // not even that goes in one piece
	Suite     string            `json:"suite"`
	Order     uint64            `json:"order"`
	Age       float64           `json:"age_seconds"`
	RekeyIn   float64           `json:"rekey_in_seconds"`
	Rx        TrafficStatus     `json:"rx"`
	Tx        TrafficStatus     `json:"tx"`
	Heard     time.Time         `json:"last_frame,omitzero"` // of any kind from the peer; rx counts data alone
	Prefixes  []netip.Prefix    `json:"prefixes"`
	Selectors []string          `json:"selectors"`
	AsOf      control.AsOf      `json:"as_of"`
}

// TrafficStatus counts inner packets one way.
type TrafficStatus struct {
	Packets uint64    `json:"packets"`
	Bytes   uint64    `json:"bytes"`
	Last    time.Time `json:"last,omitzero"`
}

// OutboundStatus counts how the packets of this host went out. Those that waited for a session are read in one batch and
// sent outside of any; probes are not counted.
type OutboundStatus struct {
	Batches uint64 `json:"batches"` // of what the TUN gave without a wait
	Reads   uint64 `json:"reads"`   // from the TUN, each up to 64 KiB of one flow
	Sends   uint64 `json:"sends"`   // of frames that the underlay took in one piece
	Frames  uint64 `json:"frames"`  // in them
}

// InboundStatus counts how the packets of peers came in.
type InboundStatus struct {
	Batches  uint64 `json:"batches"`  // of what the underlay brought without a wait
	Receives uint64 `json:"receives"` // of datagrams that it brought in one piece
	Frames   uint64 `json:"frames"`   // in them, whatever they were
	Writes   uint64 `json:"writes"`   // to the TUN, each up to 64 KiB of one flow
	Packets  uint64 `json:"packets"`  // in them
}

// plus is both together.
func (t TrafficStatus) plus(o TrafficStatus) TrafficStatus {
	if t.Last.Before(o.Last) {
		t.Last = o.Last
	}
	return TrafficStatus{t.Packets + o.Packets, t.Bytes + o.Bytes, t.Last}
}

// past is what this run has behind it.
type past struct {
	began          time.Time
	pastRx, pastTx TrafficStatus // of the sessions that are destroyed
}

// Status asks the acquirer, which owns what it tells.
func (s *SSM) Status() (Status, error) {
	answer := make(chan Status, 1)
	if !s.data.toAcquirer(func(a *acquirer) { answer <- a.status() }) {
		return Status{}, ErrEnded
	}
	select {
	case st := <-answer:
		return st, nil
	case <-s.data.ended:
		return Status{}, ErrEnded
	}
}

func (a *acquirer) status() Status {
	st := Status{
		Name: a.name, Ready: a.config.Addresses != nil, Interface: a.host.TUN.Name(), MTU: a.host.MTU,
		Addresses: a.config.Addresses, Subnets: a.config.Subnets, Port: a.host.UDP.LocalPort(), Boot: a.boot,
		AsOf: a.asOf, Uptime: time.Since(a.began).Seconds(), Held: a.holds.total, Drops: a.drops.snapshot(),
		Rx: a.pastRx, Tx: a.pastTx, KDCs: []KDCStatus{}, Routes: []RouteStatus{}, Sessions: []SessionStatus{},
		Gateway: a.gateway(),
	}
	st.Outbound, st.Inbound = a.counts.status()
	if a.fault != nil {
		st.Fault = a.fault.Error()
	}
	for _, l := range a.links.list {
		k := KDCStatus{Address: l.address, Connected: l.conn != nil, Detached: l.detached, For: time.Since(l.since).Seconds()}
		if l.conn != nil && !l.pinged.IsZero() {
			k.Silent = time.Since(l.pinged).Seconds()
		}
		if l.fault != nil {
			k.Fault = l.fault.Error()
		}
		st.KDCs = append(st.KDCs, k)
	}
	for _, prefix := range a.config.Routes {
		r := RouteStatus{Prefix: prefix, State: "installed"}
		if err := a.refused[prefix]; err != nil {
			r.State, r.Refused = "refused", err.Error()
			if errors.Is(err, ErrDeclined) {
				r.State = "declined"
			}
		}
		if p := a.table.Load().owner(prefix.Addr()); p != nil {
			r.Peer = p.name
		}
		st.Routes = append(st.Routes, r)
	}
	for _, p := range a.peers {
		for _, s := range p.sessions {
			one := s.status()
			st.Rx, st.Tx = st.Rx.plus(one.Rx), st.Tx.plus(one.Tx)
			st.Sessions = append(st.Sessions, one)
		}
	}
	slices.SortFunc(st.Sessions, func(x, y SessionStatus) int {
		return cmp.Or(cmp.Compare(x.Peer, y.Peer), cmp.Compare(x.Age, y.Age), x.ID.Compare(y.ID))
	})
	return st
}

func (s *session) status() SessionStatus {
	st := SessionStatus{
		ID: s.id, Peer: s.peer.name, Role: "responder", State: s.state.String(), Suite: s.suite.String(), Order: s.order,
		Age: time.Since(s.since).Seconds(), RekeyIn: (s.terms.Rekey() - time.Since(s.since)).Seconds(),
		MTU: int(s.peer.path.limit.Load()), Fragments: s.peer.path.pieces.Load(),
		Rx: s.rx.status(s.since), Tx: s.tx.status(s.since), Prefixes: s.prefixes, AsOf: s.scope.Load().asOf, Selectors: []string{},
	}
	if s.requester {
		st.Role = "requester"
	}
	if s.state == confirmed && s.peer.sending.Load() == s {
		st.State = "sending"
	}
	if e := s.peer.endpoint.Load(); e != nil {
		st.Endpoint = *e
	}
	if at := s.heard.Load(); at != 0 {
		st.Heard = s.since.Add(time.Duration(at))
	}
	for _, sel := range s.scope.Load().selectors {
		st.Selectors = append(st.Selectors, sel.String())
	}
	return st
}

// status is the counters of a session that began at since.
func (t *traffic) status(since time.Time) TrafficStatus {
	st := TrafficStatus{Packets: t.packets.Load(), Bytes: t.bytes.Load()}
	if at := t.lastAt(); at != 0 {
		st.Last = since.Add(at)
	}
	return st
}
