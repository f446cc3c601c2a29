package daemon

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Persistent makes TCP repeat lost segments at short intervals instead of ever longer ones. It is for the control
// channel, whose messages are few and are all waited for: with a third of the packets lost, doubled timeouts stall it
// for 20 s and more. It is the Control function of a net.Dialer or net.ListenConfig, whose connections inherit it;
// Multipath TCP, the default of a net.ListenConfig, does not. Linear timeouts are for thin streams, and need a congestion
// control with a slow start threshold, which BBR is not; the bounds of the interval came with Linux 6.15. What a kernel
// does not have is left out.
//
// The first repeat comes a round trip and shortestInterval after the segment, not 200 ms: a message may be lost several
// times over within the second that an exchange has for it. So that this is not mistaken for loss, the other end, which
// has the same options, acknowledges sooner than that.
//
// No segment is longer than the least path that carries IPv6 takes: behind a router that drops longer packets and whose
// ICMP is filtered, longer messages would otherwise be repeated in vain, for ever.
func Persistent(_, _ string, c syscall.RawConn) error {
	const (
		longestSegment   = 1280 - 40 - 20 // bytes, less the IPv6 and TCP headers
		longestInterval  = 1000           // ms, the least that the kernel takes
		shortestInterval = 20000          // µs
		longestAck       = 5000           // µs
	)
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, longestSegment)
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, longestInterval)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MIN_US, shortestInterval)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DELACK_MAX_US, longestAck)
	})
}

// Spoken is Persistent for a listener of a protocol in which the client speaks first: the kernel keeps connections that
// say nothing to itself, for as long as patience, so that they take no place from those that do.
func Spoken(patience time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, c syscall.RawConn) error {
		if err := Persistent(network, address, c); err != nil {
			return err
		}
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(patience.Seconds()))
		})
	}
}
