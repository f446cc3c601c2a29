package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

// The KDC and several SSMs in one process, real but for the edge of the host (tunssm/fake): world_test.go and
// host_test.go build them, glass_test.go reads their control messages, trace_test.go and drawing_test.go draw what
// happens. Everything blocks on channels and timers alone, so testing/synctest owns the clock: a test may wait for
// seconds or hours and takes neither.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
