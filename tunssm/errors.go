package tunssm

import "errors"

var (
	// ErrNotFound: no session with that peer.
	ErrNotFound = errors.New("no session with that peer")
	// ErrDeclined: the operator does not want the route. What Route.Offer says of one wraps it.
	ErrDeclined = errors.New("declined")
	// ErrQuery: a flow that cannot be traced, as it cannot be this host's.
	ErrQuery = errors.New("no such flow")
	// ErrNotReady: there is no interface, as no KDC has said what its addresses are or they cannot be had.
	ErrNotReady = errors.New("the interface is not up")
	// ErrEnded: the SSM is stopping.
	ErrEnded = errors.New("the SSM is stopping")

	errNoCandidate = errors.New("the peer has no usable underlay address")
	errRevoked     = errors.New("the session was revoked before it was installed")
	errOrder       = errors.New("the session's order is out of range")
	errOverlap     = errors.New("the peer's prefixes overlap our own")
)
