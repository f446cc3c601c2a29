package packet

import "encoding/binary"

// The frame, as a UDP payload (package doc, "Frames"):
//
//	type(8) flags(8) lane(8) zero(8) | SPI(32) | counter(64) | sealed inner packet | tag(128)
const (
	HeaderLen  = 16                 // cleartext, the AEAD's additional data
	TagLen     = 16                 // of both suites
	Overhead   = HeaderLen + TagLen // bytes a frame adds to its inner packet
	MaxLanes   = 8                  // lanes are below it
	offFlags   = 1                  // offsets of the header's fields
	LaneOffset = 2                  // where the network may read the lane, to steer by it
	offZero    = 3
	offSPI     = 4
	offCount   = 8
)

// SPI is the cleartext 32-bit index of the receiver's session (RFC 4301, section 4.1). It is random and never zero.
type SPI uint32

// Counter is the per-direction frame number of a session key and its AEAD nonce.
type Counter uint64

// FrameType tells what a frame seals.
type FrameType uint8

const (
	Data  FrameType = 1 // an IP packet
	Probe FrameType = 2 // a ProbeMessage
)

// FlagPartial marks a data frame whose inner TCP or UDP checksum covers the pseudo-header only, as a virtio-net guest
// would hand it over. It is valid on an unfragmented TCP or UDP packet alone.
const FlagPartial = 1 << 0

// FrameHeader is the cleartext header of a frame.
type FrameHeader struct {
	Type    FrameType
	Flags   uint8
	Lane    uint8 // which of the receiver's windows judges the frame
	SPI     SPI
	Counter Counter
}

// Put writes the header to b, which is at least HeaderLen long.
func (h FrameHeader) Put(b []byte) {
	_ = b[HeaderLen-1]
	b[0], b[offFlags], b[LaneOffset], b[offZero] = byte(h.Type), h.Flags, h.Lane, 0
	binary.BigEndian.PutUint32(b[offSPI:], uint32(h.SPI))
	binary.BigEndian.PutUint64(b[offCount:], uint64(h.Counter))
}

// ParseFrame reads the header of a whole frame. Nothing of it is to be believed before the frame has been opened.
func ParseFrame(b []byte) (FrameHeader, error) {
	if len(b) < Overhead {
		return FrameHeader{}, ErrFrame
	}
	h := FrameHeader{
		Type: FrameType(b[0]), Flags: b[offFlags], Lane: b[LaneOffset],
		SPI:     SPI(binary.BigEndian.Uint32(b[offSPI:])),
		Counter: Counter(binary.BigEndian.Uint64(b[offCount:])),
	}
	if !knownFrame(h.Type, h.Flags) || h.Lane >= MaxLanes || b[offZero] != 0 || h.SPI == 0 {
		return FrameHeader{}, ErrFrame
	}
	return h, nil
}

// knownFrame says whether a frame of this type may carry these flags.
func knownFrame(t FrameType, flags uint8) bool {
	return t == Data && flags&^FlagPartial == 0 || t == Probe && flags == 0
}
