package packet

import "errors"

// Nothing is allocated to refuse a packet or a frame: every error is one of these. Exported are those that a caller tells
// from the rest; all others have but one consequence, and a
// text. Towards the network they are all the same: silence.
var (
	// ErrVirtio reports a virtio-net header that is cut short, asks for what was not offered or contradicts its packet.
	ErrVirtio = errors.New("packet: virtio-net header does not fit its packet")
	// ErrFrame reports a frame that is too short or whose header is not of this version.
	ErrFrame = errors.New("packet: malformed frame")
	// ErrOpen reports a frame that was not sealed under this key as it stands: forged, altered or misdirected.
	ErrOpen = errors.New("packet: frame does not open")
	// ErrReplay reports an authentic frame that was opened before, or is too old to tell.
	ErrReplay = errors.New("packet: frame replayed or too old")
	// ErrDestroyed reports the use of a session key after its destruction.
	ErrDestroyed = errors.New("packet: session key destroyed")

	errTruncated   = errors.New("packet: truncated") // by its own header's account
	errVersion     = errors.New("packet: neither IPv4 nor IPv6")
	errMalformed   = errors.New("packet: malformed IP header") // or a chain of extension headers that contradicts itself
	errSourceRoute = errors.New("packet: source-routed")       // to another destination than the one it shows
	errPartial     = errors.New("packet: partial checksum on a packet that cannot have one")
	errProbe       = errors.New("packet: malformed probe message")
	errExhausted   = errors.New("packet: session key exhausted") // MaxFrames were sealed: a rekey is overdue; or a batch has no more
	errSuite       = errors.New("packet: unknown suite")
	errSPI         = errors.New("packet: SPI is zero")
)
