package packet

// Probe messages: what a frame of type Probe seals. Probes are not data: they keep a path alive, measure it, and end a
// session.

import "encoding/binary"

// ProbeKind tells what a probe is for.
type ProbeKind uint8

const (
	Keepalive ProbeKind = 1 // opens the path and confirms the session; wants no answer
	Echo      ProbeKind = 2 // wants a Reply
	Reply     ProbeKind = 3 // answers the Echo of the same ID
	Close     ProbeKind = 4 // the sender ends the session
)

// ProbeLen is the length of a probe message without padding.
const ProbeLen = 5

// ProbeMessage is one probe.
//
//	kind(8) id(32) padding(0..)
type ProbeMessage struct {
	Kind    ProbeKind
	ID      uint32
	Padding int // bytes; sent as zeros, ignored when received
}

// Append appends the message to dst.
func (m ProbeMessage) Append(dst []byte) []byte {
	dst = append(dst, byte(m.Kind))
	dst = binary.BigEndian.AppendUint32(dst, m.ID)
	for range m.Padding {
		dst = append(dst, 0)
	}
	return dst
}

// ParseProbe reads the payload of an opened frame of type Probe.
func ParseProbe(b []byte) (ProbeMessage, error) {
	if len(b) < ProbeLen {
		return ProbeMessage{}, errProbe
	}
	m := ProbeMessage{Kind: ProbeKind(b[0]), ID: binary.BigEndian.Uint32(b[1:]), Padding: len(b) - ProbeLen}
	if m.Kind < Keepalive || m.Kind > Close {
		return ProbeMessage{}, errProbe
	}
	return m, nil
}
