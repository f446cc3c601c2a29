package route

import "errors"

var (
	// ErrConflict: the host's own network needs what the route would take.
	ErrConflict = errors.New("route: conflict")
	// ErrUnreachable: the host has no route to that address.
	ErrUnreachable = errors.New("route: no route")
	// ErrNoInterface: no interface of that name exists.
	ErrNoInterface = errors.New("route: no such interface")
	// ErrPrivilege: the process may not change the host's network.
	ErrPrivilege = errors.New("route: changing the network needs CAP_NET_ADMIN; run with sudo")
)
