package kdc

import (
	"net/netip"
	"slices"
	"time"

	"ssmnet/packet/control"
)

// Status is the KDC at a glance.
type Status struct {
	Service           string         `json:"service,omitempty"` // the systemd unit that runs it
	Since             time.Time      `json:"since"`             // of this run
	Uptime            float64        `json:"uptime_seconds"`    // of this run, on the monotonic clock
	PeersKnown        int            `json:"peers_known"`
	PeersOnline       int            `json:"peers_online"`
	Sessions          int            `json:"sessions"`            // live, as far as their ends have reported
	Requests          uint64         `json:"requests"`            // KeyRequests of this run
	Grants            uint64         `json:"grants"`              // of them granted
	Denials           uint64         `json:"denials"`             // of them refused, for whatever reason
	Lookups           uint64         `json:"lookups"`             // of this run; none is a decision on a key
	RequestsPerSecond float64        `json:"requests_per_second"` // over the last seconds
	PolicyRevision    uint64         `json:"policy_revision"`     // zero: no policy, all denied
	AsOf              control.AsOf   `json:"as_of"`
	Audit             string         `json:"audit"`    // "ok", or why decisions cannot be recorded
	Store             string         `json:"store"`    // "ok", or for how long, and why, the KDC has been cut off from it
	Detached          bool           `json:"detached"` // cut off for so long that no key is issued
	Addresses         []string       `json:"addresses"`
	Listen            []string       `json:"listen"`
	Overlays          []netip.Prefix `json:"overlays"`
}

// Status gives the KDC at a glance.
func (k *KDC) Status() Status {
	s, config, up := k.snapshot.Load(), k.Config(), time.Since(k.began)
	st := Status{
		Since: k.since.UTC(), Uptime: up.Seconds(), PeersKnown: len(s.peers),
		Requests: k.counts.requests.Load(), Grants: k.counts.grants.Load(), Denials: k.counts.denials.Load(),
		Lookups:        k.counts.lookups.Load(),
		PolicyRevision: s.policyRevision, AsOf: s.asOf, Audit: "ok",
		Addresses: config.Addresses, Overlays: config.Overlays,
	}
	if err := k.audit.failing(); err != nil {
		st.Audit = err.Error()
	}
	st.Store, st.Detached = k.storeState()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.live {
		if p.conn != nil {
			st.PeersOnline++
		}
	}
	st.Sessions, st.RequestsPerSecond = len(k.sessions), k.rate.average(up)
	st.Listen = slices.Clone(k.listening)
	return st
}

// rateOver is how many whole seconds a rate is taken over.
const rateOver = 8

// perSecond counts events by the second of a run. It is under KDC.mu.
type perSecond struct {
	second [rateOver + 1]int64
	count  [rateOver + 1]uint64
}

func (r *perSecond) add(at time.Duration) {
	s := int64(at / time.Second)
	i := s % int64(len(r.second))
	if r.second[i] != s {
		r.second[i], r.count[i] = s, 0
	}
	r.count[i]++
}

// average is over the seconds that are complete.
func (r *perSecond) average(at time.Duration) float64 {
	var sum uint64
	for i, s := range r.second {
		if age := int64(at/time.Second) - s; age >= 1 && age <= rateOver {
			sum += r.count[i]
		}
	}
	return float64(sum) / rateOver
}
