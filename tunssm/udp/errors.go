package udp

import "errors"

var (
	// ErrTaken: another socket has the port.
	ErrTaken = errors.New("udp: port is taken")
	// ErrPrivilege: the port is one of those that only root may bind.
	ErrPrivilege = errors.New("udp: port needs CAP_NET_BIND_SERVICE")
	// ErrTooBig: a frame is longer than a datagram to that destination can be.
	ErrTooBig = errors.New("udp: frame is too big for the path")
)
