// Package bench measures the throughput between two SSMs through the tunnel. Each SSM serves a sink on its overlay
// addresses, TCP port 7601: who may use it is policy's to say, by tcp/7601. A stream is one TCP connection (widths are in
// bits, numbers big-endian):
//
//	client                        sink
//	                           <- greeting  magic(32) "SSMB" | version(8) = 1 | busy(8) | zero(16)
//	request  milliseconds(32)  ->
//	bytes, for so long         ->
//	end of its sending         ->
//	                           <- result    bytes received(64) | nanoseconds that took(64)
//	                           <- bytes, for so long, and the end of the connection
//
// The sink speaks first, so that one that has no stream to spare (busy is 1, and the connection ends) is heard. The bytes
// mean nothing: zeros are sent, anything is discarded.
//
// # Limits
//
// A sink serves Streams streams in all, each for at most Longest in each direction, and hangs up on what is late: a
// request after RequestTimeout, anything else Slack after its time. A stream that has not made its request costs a
// goroutine and no buffer. One line of the log tells of a run, which is all streams from the first to when there is none.
package bench

import (
	"encoding/binary"
	"errors"
	"time"
)

const (
	Port           = 7601 // that of frames, but TCP and inside
	Streams        = 16
	Longest        = time.Minute
	RequestTimeout = 5 * time.Second
	Slack          = 5 * time.Second
)

var (
	// ErrBusy: the sink serves as many streams as it may.
	ErrBusy = errors.New("the peer serves as many streams as it may: try fewer, or later")
	// ErrProtocol: what answers is not a sink of this version.
	ErrProtocol = errors.New("what answers is not a bench of this version")
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
