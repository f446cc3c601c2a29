package control

import "errors"

var (
	// ErrHandshake: the other side closed or failed the handshake. What was wrong is not told apart on the wire.
	ErrHandshake = errors.New("handshake failed: wrong or unknown key, or not a KDC")
	// ErrMalformed: a message that does not follow the specification. It ends the connection.
	ErrMalformed = errors.New("malformed message")
	// ErrTooLong: a message of ours would not fit in one transport message.
	ErrTooLong = errors.New("message longer than a transport message")
	// ErrSlow: the other side does not read what we send; the connection was closed.
	ErrSlow = errors.New("connection closed: the other side does not keep up")
	// ErrClosed: the connection is closed.
	ErrClosed = errors.New("connection closed")

	// ErrNonce: a grant for another attempt than the pending one (rule 2).
	ErrNonce = errors.New("grant is not for the pending attempt")
	// ErrParty: an offer or grant that names us wrongly, or the other side as ourselves (rule 2).
	ErrParty = errors.New("offer or grant names the wrong parties")
	// ErrDestination: a grant whose peer does not have the destination asked for (rule 2).
	ErrDestination = errors.New("grant is for a peer that does not have the destination")
	// ErrStale: an offer or grant decided under an older state than we have seen.
	ErrStale = errors.New("offer or grant is older than what another KDC has said")
	// ErrKeyMaterial: K, pub, enc, an SPI, the order or the suite is not what the suite asks for.
	ErrKeyMaterial = errors.New("unusable key material")
	// ErrSpent: a Requester has already turned a grant into keys (rule 6).
	ErrSpent = errors.New("attempt already used")
)
