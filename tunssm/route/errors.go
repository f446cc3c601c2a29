package route

import (
	"errors"
	"fmt"
	"net/netip"

	"ssmnet/tunssm/kernel"
)

var (
	// ErrConflict: the host's own network needs what the route would take.
	ErrConflict = errors.New("conflict")
	// ErrUnreachable: the host has no route to that address.
	ErrUnreachable = errors.New("route: no route")
	// ErrDown: the interface is down.
	ErrDown = errors.New("route: interface is down")
	// ErrLost: the interface no longer has an address or a route that it was given.
	ErrLost = errors.New("route: the interface has lost")
	// ErrNoIPv6: IPv6 is switched off on this host.
	ErrNoIPv6 = errors.New("route: this host has no IPv6")

	// ErrNoInterface: no interface of that name exists.
	ErrNoInterface = kernel.ErrNoInterface
)

func downError(ifname string) error {
	return fmt.Errorf("%w: bring it up with 'ip link set %s up'", ErrDown, ifname)
}

func lostError(ifname, what string, prefix netip.Prefix) error {
	return fmt.Errorf("%w its %s %s: %s", ErrLost, what, prefix, ifname)
}
