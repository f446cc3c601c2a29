package tunssm

import (
	"slices"
	"time"

	"ssmnet/packet/control"
)

// reportDelay is how long opened and closed sessions are gathered before the KDCs are told.
const reportDelay = 200 * time.Millisecond

// report gathers what to tell the KDCs about sessions. It belongs to the acquirer.
type report struct {
	a         *acquirer
	newer     []issued
	ended     []control.SessionID
	scheduled bool
}

// issued is an opened session and the KDC that issued it, which needs no report of it.
type issued struct {
	s    *session
	from *link
}

func (r *report) opened(s *session, from *link) {
	r.ended = slices.DeleteFunc(r.ended, func(id control.SessionID) bool { return id == s.id }) // declined before
	r.newer = append(r.newer, issued{s, from})
	r.schedule()
}

func (r *report) closed(s *session) {
	r.newer = slices.DeleteFunc(r.newer, func(i issued) bool { return i.s == s })
	r.ended = append(r.ended, s.id)
	r.schedule()
}

// declined: the KDC believes that this side has the session.
func (r *report) declined(id control.SessionID) {
	r.ended = append(r.ended, id)
	r.schedule()
}

func (r *report) schedule() {
	if r.scheduled {
		return
	}
	r.scheduled = true
	r.a.timers.after(reportDelay, func() { r.flush(r.a) })
}

// flush tells every KDC what it does not know yet.
func (r *report) flush(a *acquirer) {
	for _, l := range a.links.list {
		conn := l.conn
		if conn == nil {
			conn = l.greeting // its full report has been sent and lacks this
		}
		if conn == nil {
			continue // the full report after its next Hello has it
		}
		var opened []*session
		for _, i := range r.newer {
			if i.from != l {
				opened = append(opened, i.s)
			}
		}
		for _, m := range chunks(opened, r.ended) {
			a.reply(conn, 0, m)
		}
	}
	r.newer, r.ended, r.scheduled = nil, nil, false
}

// all is the full report that follows Hello, its last message marked.
func (r *report) all(a *acquirer) []*control.SessionReport {
	var live []*session
	for _, p := range a.peers {
		live = append(live, p.sessions...)
	}
	list := chunks(live, nil)
	if len(list) == 0 {
		list = []*control.SessionReport{{}}
	}
	list[len(list)-1].Last = true
	return list
}

// chunks spreads the sessions over as many messages as it takes.
func chunks(opened []*session, closed []control.SessionID) []*control.SessionReport {
	var list []*control.SessionReport
	for part := range slices.Chunk(opened, control.MaxReported) {
		m := new(control.SessionReport)
		for _, s := range part {
			e := s.entry
			e.AgeMillis = uint64(time.Since(s.since).Milliseconds())
			m.Opened = append(m.Opened, e)
		}
		list = append(list, m)
	}
	for part := range slices.Chunk(closed, control.MaxReported) {
		list = append(list, &control.SessionReport{Closed: part})
	}
	return list
}
