package tunssm

import (
	"time"

	"ssmnet/packet/control"
)

// Where a lossy network has held up a control channel, TCP takes the delay for the round trip, on both sides, and repeats
// what is lost next only after as long again: the stalls grow to seconds. Pings help twice. While an answer is overdue,
// each tells the KDC's TCP what has arrived, and makes it tell ours, so that what is missing is repeated at once. And once
// it has come, a few more, each when the one before is answered, mend the estimates: a channel that is used this little
// has hardly any round trips else that go well.
const (
	lateAfter   = 250 * time.Millisecond
	steadyPings = 8 // each takes an eighth off TCP's estimate
	steadyPause = 50 * time.Millisecond
	silentAfter = time.Second
)

// nudge pings a KDC that owes an answer, however many it owes.
func (a *acquirer) nudge(l *link) {
	if l.conn != nil && time.Since(l.nudged) >= lateAfter {
		l.nudged = time.Now()
		a.pingKDC(l, l.conn)
	}
}

// silent says that the KDC of l has owed the answer to a ping for a while: frozen, cut off, or behind much that was lost.
func (l *link) silent() bool { return !l.pinged.IsZero() && time.Since(l.pinged) >= silentAfter }

// whoseSilence says why there is no answer: the peer's doing if the KDC answers pings.
func (l *link) whoseSilence() control.Reason {
	if l.silent() {
		return control.NoKDC
	}
	return control.Offline
}

// steady begins the pings that follow a late answer.
func (a *acquirer) steady(l *link) {
	l.unsteady = steadyPings
	a.pingSoon(l)
}

// onPong takes the answer to a ping.
func (a *acquirer) onPong(l *link) {
	late := !l.pinged.IsZero() && time.Since(l.pinged) >= lateAfter
	l.pinged = time.Time{}
	if late {
		l.unsteady = steadyPings
	} else if l.unsteady > 0 {
		l.unsteady--
	}
	if l.unsteady > 0 {
		a.pingSoon(l)
	}
}

// pingSoon pings in a moment, once for all who ask for it until then.
func (a *acquirer) pingSoon(l *link) {
	if l.due {
		return
	}
	l.due = true
	conn := l.conn
	a.timers.after(steadyPause, func() {
		l.due = false
		if conn != nil && conn == l.conn {
			a.pingKDC(l, conn)
		}
	})
}

// pingKDC asks for a sign of life.
func (a *acquirer) pingKDC(l *link, conn *control.Conn) bool {
	if l.pinged.IsZero() {
		l.pinged = time.Now()
	}
	return conn.Send(0, &control.Ping{}) == nil
}
