package kdc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"ssmnet/packet/control"
)

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

// Status gives the KDC at a glance.
func (k *KDC) Status() Status {
	s, config, up := k.snapshot.Load(), k.Config(), time.Since(k.began)
	st := Status{
		Since: k.since.UTC(), Uptime: up.Seconds(), PeersKnown: len(s.peers),
		Requests: k.counts.requests.Load(), Grants: k.counts.grants.Load(), Denials: k.counts.denials.Load(),
		Lookups:        k.counts.lookups.Load(),
		PolicyRevision: s.policyRevision, AsOf: s.asOf, Audit: "ok",
		Addresses: orEmpty(config.Addresses), Overlays: orEmpty(config.Overlays),
	}
	if err := k.audit.failing(); err != nil {
		st.Audit = err.Error()
	}
	st.Store, st.Detached = k.storeState()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.peers {
		if p.conn != nil {
			st.PeersOnline++
		}
	}
	st.Sessions, st.RequestsPerSecond = len(k.sessions), k.rate.average(up)
	st.Listen = orEmpty(slices.Clone(k.listening))
	return st
}

// chosen says whether the filter, which has something set, chooses a session.
func (f SessionFilter) chosen(s *session) bool {
	return (f.ID == (control.SessionID{}) || f.ID == s.id) &&
		(f.Peer == "" || s.of(f.Peer) != nil) &&
		(f.PairA == "" || s.of(f.PairA) != nil) &&
		(f.PairB == "" || s.of(f.PairB) != nil && f.PairA != f.PairB)
}

// Sessions lists live sessions, the newest last.
func (k *KDC) Sessions(f SessionFilter) []SessionInfo {
	k.mu.Lock()
	found := k.find(f)
	k.mu.Unlock()
	return inOrder(found)
}

// listed is a session in a list, which is in the order of the monotonic clock.
type listed struct {
	began time.Time
	info  SessionInfo
}

// find lists the live sessions that a filter chooses, in no order. k.mu is held.
func (k *KDC) find(f SessionFilter) (list []listed) {
	for _, s := range k.sessions {
		if f.chosen(s) {
			list = append(list, listed{s.began, s.info()})
		}
	}
	return list
}

// inOrder puts the newest last.
func inOrder(found []listed) []SessionInfo {
	slices.SortFunc(found, func(a, b listed) int {
		return cmp.Or(a.began.Compare(b.began), a.info.ID.Compare(b.info.ID))
	})
	list := make([]SessionInfo, len(found))
	for i, l := range found {
		list[i] = l.info
	}
	return list
}

func (s *session) info() SessionInfo {
	i := SessionInfo{
		ID: s.id, Requester: s.sides[0].peer, Responder: s.sides[1].peer, Since: s.since.UTC(), AsOf: s.asOf, Grant: s.grant,
	}
	if s.suite != 0 {
		i.Suite = s.suite.String()
	}
	for _, x := range s.selectors {
		i.Selectors = append(i.Selectors, x.String())
	}
	return i
}

// RevokeSessions destroys the sessions at both sides and waits up to wait for their acks. The next packet acquires a
// new session if policy permits. ErrNotFound: none matches; ErrInvalid: the filter chooses nothing in particular.
func (k *KDC) RevokeSessions(ctx context.Context, f SessionFilter, wait time.Duration) ([]Receipt, error) {
	if f == (SessionFilter{}) || (f.PairA == "") != (f.PairB == "") {
		return nil, fmt.Errorf("%w: name a session, a peer, a pair, or all", ErrInvalid)
	}
	if err := k.isServing(); err != nil {
		return nil, err
	}
	k.gate.RLock()
	var doomed []*session
	k.mu.Lock()
	for _, s := range k.sessions {
		if f.chosen(s) {
			doomed = append(doomed, s)
		}
	}
	k.mu.Unlock()
	r := k.revoke(doomed, control.Operator)
	k.gate.RUnlock()
	if len(r.receipts) == 0 && !f.All {
		return nil, fmt.Errorf("live session: %w", ErrNotFound)
	}
	return k.wait(ctx, []*revocation{r}, wait), nil
}
