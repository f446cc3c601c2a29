package control

import "fmt"

// Reason is why the answer is no. Numbers are on the wire: append only.
type Reason uint8

const (
	Denied      Reason = 1  // policy permits no such flow between the two
	Unknown     Reason = 2  // no peer has the destination
	Offline     Reason = 3  // the responder is not connected, or did not accept in time
	Behind      Reason = 4  // this KDC has not yet seen what the requester has: ask another
	Detached    Reason = 5  // this KDC is cut off from its store: ask another
	Unavailable Reason = 6  // this KDC cannot record its decision: ask another
	Busy        Reason = 7  // too many requests in flight
	Malformed   Reason = 8  // the request makes no sense
	Conflict    Reason = 9  // this boot was displaced by a newer one: is the identity copied?
	Refused     Reason = 10 // the responder would not accept the offer
	Unsupported Reason = 11 // a message type this side does not know
	Suspended   Reason = 12 // an operator suspended or removed a peer
	Changed     Reason = 13 // policy changed
	Operator    Reason = 14 // an operator revoked the session
	Restarted   Reason = 15 // the other side has another boot
	NoKDC       Reason = 16 // no KDC answers: an SSM's own finding, never on the wire
)

var reasonText = [...]string{
	Denied: "denied by policy", Unknown: "unknown destination", Offline: "peer offline", Behind: "KDC behind",
	Detached: "KDC detached from its store", Unavailable: "KDC cannot record decisions", Busy: "KDC busy",
	Malformed: "malformed", Conflict: "displaced by a newer boot", Refused: "refused by the responder",
	Unsupported: "unsupported message", Suspended: "peer suspended", Changed: "policy changed",
	Operator: "revoked by an operator", Restarted: "peer restarted", NoKDC: "no KDC answers",
}

func (r Reason) String() string {
	if int(r) < len(reasonText) && reasonText[r] != "" {
		return reasonText[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// AskAnother says that the answer is this KDC's alone: another may well say yes.
func (r Reason) AskAnother() bool {
	switch r {
	case Offline, Behind, Detached, Unavailable, Busy:
		return true
	}
	return false
}
