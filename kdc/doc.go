// Package kdc is the key distribution center: it knows the peers and the policy, decides which SSMs may talk, and
// issues a one-time session key for each connection that it permits. What goes over the wire is specified in
// packet/control; this page says how the KDC keeps its promises.
//
// # The exchange
//
// Step 3 of the four is exchange.go, in the order of its figure: identify, decide, issue, deliver, record. One
// goroutine reads each connection and handles what it reads to the end; none waits for another SSM. Between offer and
// accept an exchange is an entry in a map with a timer: its phases are drawn in pending.go.
//
// # Snapshots
//
// Decisions are made from memory: an immutable snapshot of policy and peers, compiled whenever the store changes,
// with an age, as_of = (epoch, store revision): that of the last change that decisions depend on, which is to policy
// and to the peers' addresses, subnets, tags and suspension, and not to their tokens and keys. One goroutine follows
// the store: change.go has the way of a change from the operator to the receipts. It publishes each snapshot, and
// where as_of has risen, or a grant has ended by time, decides again about everything that the one before permitted:
//
//	exchanges in flight    begin again under the new as_of, or are denied; the next change waits for them a moment
//	live sessions          go on where the pair's selectors and both sides' prefixes still cover what they allow; are
//	                       narrowed where the selectors cover a part (narrow.go); otherwise Revoke to both sides
//	connections            of suspended and removed peers end once their side has acked; those of dead keys once the
//	                       answers due on them have had their time
//	requests that waited   for this state are decided
//	everybody connected    is sent an Update, and the next key of a rotation that began
//
// The gate (KDC.gate) makes each message be handled under one snapshot: so a Grant never leaves after the Update that
// would make its requester refuse it, and nothing is granted that the newest snapshot denies.
//
// A KDC that has had no contact with its store for grace is detached: it issues nothing until its snapshot is known to
// be the store's again (contact.go).
//
// # Live sessions
//
// The KDC stores no session. It knows those that it granted and those that the SSMs report, which after Hello is all
// of them; a KDC that was restarted knows every live session within a second, and revokes what is not permitted any
// more. A side is believed about itself alone: sessions.go draws what it may say. The ack of a Revoke or Narrow is
// owed by each side until it acks or shows another boot: a side that comes back is told again (receipts.go). A side
// whose report says other selectors than are known may have crossed with a Narrow, or been narrowed by another KDC:
// it is sent a Narrow, and only if what the acks then say differs is the session revoked. What one side reports and
// the other, which has reported everything, does not hold, is revoked (reports.go).
//
// # Clocks
//
// Every duration is on the monotonic clock (time.Since). The wall clock, KDC.now, decides a grant's until and a token's
// TTL, and is what people read. It may be set, forward and back: the KDC looks at it at least once a minute, and what
// until has ended may begin again.
//
// # Limits
//
// What a stranger, a token's holder or an enrolled peer can ask for is bounded (strangers.go, limits.go), so that none
// of them takes from the others what the KDC has.
//
// # Keys at rest
//
// The store holds permanent keys and tokens only sealed (keyring.go); a key is opened for the time of one handshake.
// The store key lies beside the store in a file of its own. K, the KDC's contribution to a session key, lives from
// issue to record.
//
// # The state directory
//
//	kdc.toml     configuration (config.go)
//	store.key    seals the keys in the store, 0600
//	store.db     peers and policy (records.go), 0600
//	audit.log    one JSON line for each decision and each change, never a key (audit.go), 0600
//
// # Locks
//
// In the order in which they are taken: KDC.changing, held by an operation that changes the store; KDC.telling, while
// Updates go out; KDC.gate; KDC.mu, for operations on the maps of what is live; contact.mu. Nobody waits for the
// network or the disk under the last three: control.Conn.Send does not, and the audit record is a queue.
package kdc
