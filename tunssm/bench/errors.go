package bench

import "errors"

var (
	// ErrBusy: the sink serves as many streams as it may.
	ErrBusy = errors.New("the peer serves as many streams as it may: try fewer, or later")
	// ErrProtocol: what answers is not a sink of this version.
	ErrProtocol = errors.New("what answers is not a bench of this version")
)
