package tunssm

import "golang.org/x/time/rate"

// Bounds of lines that others can cause, a second and at once.
const (
	stepRate, stepBurst = 20, 100 // any local program, with packets that find no session
	lifeRate, lifeBurst = 50, 500 // a peer, with sessions that it begins and ends
)

// steps bounds log lines of one kind. It belongs to the acquirer.
type steps struct {
	limit      *rate.Limiter
	suppressed int
}

func newSteps(perSecond rate.Limit, burst int) steps {
	return steps{limit: rate.NewLimiter(perSecond, burst)}
}

// allow says whether there is room for a line, and counts it where there is none.
func (s *steps) allow() bool {
	if s.limit.Allow() {
		return true
	}
	s.suppressed++
	return false
}

// step logs one step of an acquisition, within bounds.
func (a *acquirer) step(what string, args ...any) {
	if a.steps.allow() {
		a.log.Info(what, args...)
	}
}

// life logs one event of a session, within bounds.
func (a *acquirer) life(what string, args ...any) {
	if a.lives.allow() {
		a.log.Info(what, args...)
	}
}

// tellSuppressed says what step and life have left out since the last time.
func (a *acquirer) tellSuppressed() {
	if n := a.steps.suppressed; n > 0 {
		a.steps.suppressed = 0
		a.log.Info("suppressed lines about acquisitions", "count", n)
	}
	if n := a.lives.suppressed; n > 0 {
		a.lives.suppressed = 0
		a.log.Info("suppressed lines about sessions", "count", n)
	}
}
