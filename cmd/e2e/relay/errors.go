package relay

import "errors"

var (
	// ErrSettings reports settings that contradict themselves or are out of range.
	ErrSettings = errors.New("relay: settings")
	// ErrPrivilege reports that packet sockets are not permitted here.
	ErrPrivilege = errors.New("relay: packet sockets need CAP_NET_RAW and CAP_NET_ADMIN")
	// ErrGone reports that an interface was deleted under the relay.
	ErrGone = errors.New("relay: the interface was deleted")
)
