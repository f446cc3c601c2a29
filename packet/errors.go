package packet

import "errors"

// Of packets. A packet that Parse refuses is dropped and counted; nothing about it can be decided.
var (
	// ErrTruncated reports fewer bytes than the packet's own header says there are.
	ErrTruncated = errors.New("packet: truncated")
	// ErrVersion reports bytes that are neither IPv4 nor IPv6.
	ErrVersion = errors.New("packet: neither IPv4 nor IPv6")
	// ErrMalformed reports an IP header, or a chain of IPv6 extension headers, that contradicts itself.
	ErrMalformed = errors.New("packet: malformed IP header")
	// ErrSourceRoute reports a packet that asks to be sent on to another destination than the one it shows.
	ErrSourceRoute = errors.New("packet: source-routed")
	// ErrPartial reports a partial checksum on anything but an unfragmented, well-formed TCP or UDP packet.
	ErrPartial = errors.New("packet: partial checksum on a packet that cannot have one")
	// ErrVirtio reports a virtio-net header that is cut short, asks for what was not offered or contradicts its packet.
	ErrVirtio = errors.New("packet: virtio-net header does not fit its packet")
)

// Of frames. Towards the network they are all the same: silence.
var (
	// ErrFrame reports a frame that is too short or whose header is not of this version.
	ErrFrame = errors.New("packet: malformed frame")
	// ErrOpen reports a frame that was not sealed under this key as it stands: forged, altered or misdirected.
	ErrOpen = errors.New("packet: frame does not open")
	// ErrReplay reports an authentic frame that was opened before, or is too old to tell.
	ErrReplay = errors.New("packet: frame replayed or too old")
	// ErrExhausted reports a session key that has sealed MaxFrames frames; a rekey is overdue.
	ErrExhausted = errors.New("packet: session key exhausted")
	// ErrDestroyed reports the use of a session key after its destruction.
	ErrDestroyed = errors.New("packet: session key destroyed")
	// ErrSuite reports a suite this version does not know.
	ErrSuite = errors.New("packet: unknown suite")
	// ErrSPI reports SPI zero, which names no session.
	ErrSPI = errors.New("packet: SPI is zero")
	// ErrProbe reports a probe message that is cut short or of unknown kind.
	ErrProbe = errors.New("packet: malformed probe message")
)
