package daemon

import (
	"fmt"

	"ssmnet/packet/secret"
)

// Harden keeps keys out of what the system may write to disk: no core dump, no debugger of the same user, memory
// locked. What cannot be had is told as warnings, one line each, for the log; the daemon runs without it.
func Harden() (warnings []string) {
	if err := secret.NoCoreDumps(); err != nil {
		warnings = append(warnings, fmt.Sprintf("core dumps stay possible: %v", err))
	}
	if err := secret.LockMemory(); err != nil {
		warnings = append(warnings, fmt.Sprintf("keys may reach swap: %v", err))
	}
	return warnings
}
