package tunssm

import (
	"context"

	"ssmnet/packet/control"
)

// lookup is a question of ours under way (package control, "Lookups"). It belongs to the acquirer.
type lookup struct {
	ask     *control.Lookup
	id      uint64
	link    *link
	tried   map[*link]bool
	timeout *timer
	answer  control.LookupReply // final, or of a KDC whose reason is its own alone
	done    chan control.LookupReply
}

// lookup asks the KDCs, one after the other. Where none answers the reason is NoKDC.
func (s *SSM) lookup(ctx context.Context, ask *control.Lookup) (control.LookupReply, error) {
	q := &lookup{
		ask: ask, tried: map[*link]bool{}, done: make(chan control.LookupReply, 1),
		answer: control.LookupReply{Reason: control.NoKDC},
	}
	if !s.data.toAcquirer(func(a *acquirer) { a.look(q) }) {
		return q.answer, ErrEnded
	}
	select {
	case answer := <-q.done:
		return answer, nil
	case <-s.data.ended:
		return control.LookupReply{}, ErrEnded
	case <-ctx.Done():
		return control.LookupReply{}, ctx.Err() // its timeout ends it
	}
}

// look asks the next healthy KDC that has not been asked, and gives up where there is none.
func (a *acquirer) look(q *lookup) {
	l := a.healthy(q.tried)
	if l == nil {
		q.done <- q.answer
		return
	}
	q.id, q.link, q.tried[l] = a.nextCall(), l, true
	a.lookups[q.id] = q
	a.reply(l.conn, q.id, q.ask)
	q.timeout = a.timers.after(control.RequestTimeout, func() { a.lookElsewhere(q) })
}

func (a *acquirer) lookElsewhere(q *lookup) {
	a.timers.cancel(q.timeout)
	delete(a.lookups, q.id)
	a.look(q)
}

// onLookupReply takes the answer, if it is that of the KDC that was asked.
func (a *acquirer) onLookupReply(l *link, id uint64, m *control.LookupReply) {
	q := a.lookups[id]
	if q == nil || q.link != l {
		return
	}
	q.answer = *m
	if m.Reason.AskAnother() {
		a.lookElsewhere(q)
		return
	}
	a.timers.cancel(q.timeout)
	delete(a.lookups, id)
	q.done <- q.answer
}
