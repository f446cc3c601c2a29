package tunssm

import "golang.org/x/time/rate"

// Bounds of lines that others can cause, a second and at once.
const (
	stepRate, stepBurst = 20, 100 // any local program, with packets that find no session
	lifeRate, lifeBurst = 50, 500 // a peer, with sessions that it begins and ends
)

// logLimit bounds log lines of one kind. It belongs to the acquirer.
type logLimit struct {
	limit      *rate.Limiter
	suppressed int
}

func newLogLimit(perSecond rate.Limit, burst int) logLimit {
	return logLimit{limit: rate.NewLimiter(perSecond, burst)}
}

// allow says whether there is room for a line, and counts it where there is none.
func (l *logLimit) allow() bool {
	if l.limit.Allow() {
		return true
	}
	l.suppressed++
	return false
}

// logLines are the acquirer's that others can cause.
type logLines struct {
	stepLines    logLimit // of acquisitions
	sessionLines logLimit // of sessions that peers begin and end
}

func newLogLines() logLines {
	return logLines{newLogLimit(stepRate, stepBurst), newLogLimit(lifeRate, lifeBurst)}
}

// logStep logs one step of an acquisition, within bounds.
func (a *acquirer) logStep(what string, args ...any) {
	if a.stepLines.allow() {
		a.log.Info(what, args...)
	}
}

// logSession logs one event of a session, within bounds.
func (a *acquirer) logSession(what string, args ...any) {
	if a.sessionLines.allow() {
		a.log.Info(what, args...)
	}
}

// tellSuppressed says what logStep and logSession have left out since the last time.
func (a *acquirer) tellSuppressed() {
	if n := a.stepLines.suppressed; n > 0 {
		a.stepLines.suppressed = 0
		a.log.Info("suppressed lines about acquisitions", "count", n)
	}
	if n := a.sessionLines.suppressed; n > 0 {
		a.sessionLines.suppressed = 0
		a.log.Info("suppressed lines about sessions", "count", n)
	}
}
