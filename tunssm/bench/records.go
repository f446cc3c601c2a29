package bench

import (
	"encoding/binary"
	"time"
)

const (
	Port           = 7601 // that of frames, but TCP and inside
	Streams        = 16
	Longest        = time.Minute
	RequestTimeout = 5 * time.Second
	Slack          = 5 * time.Second
)

const (
	magic   = "SSMB"
	version = 1

	greetingLen = 8
	requestLen  = 4
	resultLen   = 16
	chunk       = 128 << 10 // bytes of one read or write
)

type greeting struct{ busy bool }

func (g greeting) append(b []byte) []byte {
	b = append(b, magic...)
	if g.busy {
		return append(b, version, 1, 0, 0)
	}
	return append(b, version, 0, 0, 0)
}

func parseGreeting(b []byte) (g greeting, err error) {
	if len(b) != greetingLen || string(b[:4]) != magic || b[4] != version || b[5] > 1 || b[6] != 0 || b[7] != 0 {
		return g, ErrProtocol
	}
	return greeting{b[5] == 1}, nil
}

// request is how long each direction lasts, in whole milliseconds.
type request struct{ duration time.Duration }

func (r request) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(r.duration.Milliseconds()))
}

func parseRequest(b []byte) (r request, err error) {
	if len(b) != requestLen {
		return r, ErrProtocol
	}
	r.duration = time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond
	if r.duration <= 0 || r.duration > Longest {
		return r, ErrProtocol
	}
	return r, nil
}

// result is what one stream has received, and within what time.
type result struct {
	bytes uint64
	took  time.Duration
}

func (r result) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.bytes)
	return binary.BigEndian.AppendUint64(b, uint64(r.took))
}

func parseResult(b []byte) (r result, err error) {
	if len(b) != resultLen {
		return r, ErrProtocol
	}
	r = result{binary.BigEndian.Uint64(b), time.Duration(binary.BigEndian.Uint64(b[8:]))}
	if r.took < 0 || r.took > Longest+Slack {
		return r, ErrProtocol
	}
	return r, nil
}
