package forward

import "errors"

var (
	// ErrGlobal: the kernel forwards IPv6 on all interfaces or none.
	ErrGlobal = errors.New("forward: this kernel (before Linux 6.17) forwards IPv6 between all interfaces or none; they forward " +
		"now, and listen to router advertisements nevertheless where they did before")
	// ErrUnguarded: this kernel has no nftables, by which Guard works.
	ErrUnguarded = errors.New("forward: without nftables in the kernel, hosts behind this one can send into the tunnel with its " +
		"own IPv6 address for their source, and so what policy permits this host")
)
