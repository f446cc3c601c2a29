package daemon

import (
	"io"
	"log/slog"
)

// NewLog makes the log of a program. A line says what happened and, in attributes, to whom, in which step and why. The
// same thing has the same key everywhere (a test in cmd/e2e holds all lines to these):
//
//	step        of the exchange: 1 hold, 2 request, 3 decide and install, 4 release or answer
//	peer        name of the peer that the line is about
//	requester   name of the peer that asked for a session, where the line is the KDC's
//	responder   name of the other one
//	role        which of the two the SSM is
//	for         the flow or peer that a session key is asked for
//	flow        of the packet that is held
//	session     id of the session
//	suite       of the session
//	selectors   how many the session has
//	boot        id of the run of an SSM; in the record of changes, of the machine
//	key_id      id of a permanent key
//	as_of       state of policy and peers
//	revision    of the policy
//	grants      how many the policy has
//	kdc         address of a KDC
//	aside       address of the same KDC that stands aside
//	source      address that a connection comes from
//	address     address that the program itself listens on or has
//	addresses   several of them
//	endpoint    underlay address of a peer's frames
//	interface   name of the TUN interface
//	route       prefix of a route
//	subnet      prefix behind this host
//	mtu         bytes of the longest packet to a peer
//	fragments   bytes of the longest that goes in fragments
//	message     number of a message of the control protocol
//	reason      why it was done or refused, where nothing has failed
//	error       what failed
//	lost        what was found missing
//	what        the setting of the host that was changed or put back
//	before      what it was
//	now         what it is
//	after       how long since it began
//	keys        how long it took from the grant to the keys in use
//	packets     how many packets
//	count       how many lines
//	most        how many there may be
//	again       whether it happened before
//	streams, received, sent        of a measurement: how many streams, bytes received and bytes sent
//	file, dir, config, log_level   of the program: a file, its state directory, its configuration, its log level
//	namespace, changes             of a record of changes: its network namespace and how many it holds
//	uid, pid                       of a process that was refused
//	capabilities, landlock         what is left to the program of its rights
//	version                        of the program
func NewLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}
