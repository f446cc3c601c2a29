package daemon

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"time"
)

// Supervised says whether the service manager (systemd) has started this process and watches over it.
func Supervised() bool { return os.Getenv("NOTIFY_SOCKET") != "" && os.Getenv("INVOCATION_ID") != "" }

// Watchdog tells the service manager that the daemon works, and in a line how it does, twice in the time after which it
// would start it anew (WATCHDOG_USEC; without it Watchdog returns at once), until ctx ends. alive is a call that a
// daemon which hangs does not answer, or answers with an error: then nothing is told. See sd_watchdog_enabled(3).
func Watchdog(ctx context.Context, alive func() (status string, err error), log *slog.Logger) {
	every := watchdogInterval() / 2
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if status, err := alive(); err == nil {
			Notify("WATCHDOG=1\nSTATUS="+status, log)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// watchdogInterval is 0 where nobody waits for this process. A child of the process that is waited for is told too.
func watchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec < 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}
