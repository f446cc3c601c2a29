package tunssm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"ssmnet/packet"
	"ssmnet/packet/control"
)

// RefusedError is the KDC's no to a request made by name.
type RefusedError struct {
	Peer   string
	Reason control.Reason
}

func (e *RefusedError) Error() string { return fmt.Sprintf("no session with %s: %s", e.Peer, e.Reason) }

const (
	maxEchoes = 1024 // under way
	proofID   = 0    // of the echoes that prove a session or its path, whose replies nobody awaits
)

// pings are echoes under way and those that wait for a session. They belong to the acquirer.
type pings struct {
	a       *acquirer
	waiting map[string][]*ping // by peer
	echoes  map[uint32]*ping

	searches int // under way, whose replies are awaited too (path.go)
}

type ping struct {
	peer string
	id   uint32
	done chan error // one slot
}

// Ping measures one echo through the tunnel. Where there is no session it acquires one, and that time counts.
func (s *SSM) Ping(ctx context.Context, peer string) (time.Duration, error) {
	began := time.Now()
	p := &ping{peer: peer, done: make(chan error, 1)}
	if !s.data.toAcquirer(func(a *acquirer) { a.ping(p) }) {
		return 0, ErrEnded
	}
	select {
	case err := <-p.done:
		return time.Since(began), err
	case <-s.data.ended:
		return 0, ErrEnded
	case <-ctx.Done():
		s.data.toAcquirer(func(a *acquirer) { a.pings.forget(p) })
		return 0, ctx.Err()
	}
}

// ping sends an echo, now or as soon as there is a session.
func (a *acquirer) ping(p *ping) {
	if !control.ValidName(p.peer) || p.peer == a.name {
		p.done <- &RefusedError{p.peer, control.Unknown}
		return
	}
	if known := a.peers[p.peer]; known != nil {
		if s := known.sending.Load(); s != nil {
			a.pings.echo(s, p)
			return
		}
	}
	a.pings.waiting[p.peer] = append(a.pings.waiting[p.peer], p)
	if g := (goal{peer: p.peer}); a.attempts[g] == nil {
		a.step2Request(&attempt{goal: g, began: time.Now()})
	}
}

// echo sends p on s: to wherever the peer might be until the session is confirmed.
func (q *pings) echo(s *session, p *ping) {
	if len(q.echoes) >= maxEchoes {
		p.done <- fmt.Errorf("more than %d echoes under way", maxEchoes)
		return
	}
	for p.id == proofID || q.echoes[p.id] != nil {
		p.id = rand.Uint32()
	}
	q.echoes[p.id] = p
	q.count()
	targets := s.everywhere()
	if s.heardAt() != 0 {
		targets = targets[:0:0]
		targets = append(targets, s.target())
	}
	q.a.sendProbe(s, packet.ProbeMessage{Kind: packet.Echo, ID: p.id}, targets...)
}

// opened: s may carry what waits for its peer.
func (q *pings) opened(s *session) {
	for _, p := range q.waiting[s.peer.name] {
		q.echo(s, p)
	}
	delete(q.waiting, s.peer.name)
}

// fail ends what waits for the peer.
func (q *pings) fail(peer string, reason control.Reason) {
	for _, p := range q.waiting[peer] {
		p.done <- &RefusedError{peer, reason}
	}
	delete(q.waiting, peer)
}

func (q *pings) failAll(err error) {
	for _, list := range q.waiting {
		for _, p := range list {
			p.done <- err
		}
	}
	for _, p := range q.echoes {
		p.done <- err
	}
	q.waiting, q.echoes = nil, nil
	q.count()
}

// count tells inbound whether replies are awaited.
func (q *pings) count() { q.a.echoing.Store(int32(len(q.echoes) + q.searches)) }

// forget drops a ping whose caller no longer waits.
func (q *pings) forget(p *ping) {
	q.waiting[p.peer] = slices.DeleteFunc(q.waiting[p.peer], func(o *ping) bool { return o == p })
	if len(q.waiting[p.peer]) == 0 {
		delete(q.waiting, p.peer)
	}
	if q.echoes[p.id] == p {
		delete(q.echoes, p.id)
		q.count()
	}
}

// onReply: the reply to an echo has been opened on s.
func (a *acquirer) onReply(s *session, id uint32) {
	p := a.pings.echoes[id]
	switch {
	case p == nil:
		a.answeredEcho(s.peer, id)
	case p.peer == s.peer.name:
		delete(a.pings.echoes, id)
		a.pings.count()
		p.done <- nil
	}
}
