package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoInterface: no interface of that name exists.
	ErrNoInterface = errors.New("kernel: no such interface")
	// ErrPrivilege: the process may not change the host's network.
	ErrPrivilege = errors.New("kernel: changing the network needs CAP_NET_ADMIN; run with sudo")
)

// Wrap names what failed, on what, and what to do where the reason is a missing privilege. It keeps nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (%s)", ErrPrivilege, what)
	}
	return fmt.Errorf("kernel: %s: %w", what, err)
}
