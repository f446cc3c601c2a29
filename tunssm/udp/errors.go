package udp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrTaken: another socket has the port.
	ErrTaken = errors.New("udp: port is taken")
	// ErrPrivilege: the port is one of those that only root may bind.
	ErrPrivilege = errors.New("udp: port needs CAP_NET_BIND_SERVICE")
	// ErrTooBig: a frame is longer than its path is known to carry in one piece. It is an EMSGSIZE.
	ErrTooBig = fmt.Errorf("udp: frame is too big for the path: %w", unix.EMSGSIZE)
)
