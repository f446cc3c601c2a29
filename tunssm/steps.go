package tunssm

import "golang.org/x/time/rate"

// stepRate and stepBurst bound the lines that any local program can cause, with packets that find no session.
const (
	stepRate  = 20
	stepBurst = 100
)

// steps bounds the log lines of acquisitions. It belongs to the acquirer.
type steps struct {
	limit      *rate.Limiter
	suppressed int
}

func newSteps() steps { return steps{limit: rate.NewLimiter(stepRate, stepBurst)} }

// step logs one step of an acquisition, within bounds.
func (a *acquirer) step(what string, args ...any) {
	if !a.steps.limit.Allow() {
		a.steps.suppressed++
		return
	}
	a.log.Info(what, args...)
}

// tellSuppressed says what step has left out since the last time.
func (a *acquirer) tellSuppressed() {
	if n := a.steps.suppressed; n > 0 {
		a.steps.suppressed = 0
		a.log.Info("suppressed lines about acquisitions", "count", n)
	}
}
