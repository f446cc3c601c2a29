package control

import "time"

// Version is the protocol version in the preface and the transcript.
const Version = 1

// The protocol's times; all run on the monotonic clock.
const (
	HandshakeTimeout = 5 * time.Second  // connection to first verified message
	PingInterval     = 15 * time.Second // between pings
	DeadAfter        = 45 * time.Second // silence that ends a connection
	AcceptTimeout    = 4 * time.Second  // offer to accept
	RequestTimeout   = 2 * time.Second  // request to grant, before another KDC is asked
	HoldTimeout      = 5 * time.Second  // first request to final answer
	ConfirmTimeout   = 10 * time.Second // provisional to destroyed
)

// DefaultPort is the KDC's TCP port; DefaultFramePort the SSM's UDP port.
const (
	DefaultPort      = 7600
	DefaultFramePort = 7601
)

// Limits of what one message lists. MaxList bounds every list at the decoder.
const (
	MaxList       = 1024
	MaxAddresses  = 8   // interface addresses in Hello and Endpoint
	MaxCandidates = 10  // those, the fixed endpoint and the source the KDC saw
	MaxReported   = 256 // sessions in one SessionReport or Revoke
	maxSoftware   = 128 // bytes of a software version
)
