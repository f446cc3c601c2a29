package control

import "errors"

// Exported are those that a caller tells from the rest; the others only say what was wrong.
var (
	// ErrHandshake: the other side closed or failed the handshake. What was wrong is not told apart on the wire.
	ErrHandshake = errors.New("handshake failed: wrong or unknown key, or not a KDC")
	// ErrMalformed: a message that does not follow the specification. It ends the connection.
	ErrMalformed = errors.New("malformed message")
	// ErrClosed: the connection is closed.
	ErrClosed = errors.New("connection closed")
	// ErrNonce: a grant for another attempt than the pending one, which goes on (rule 2).
	ErrNonce = errors.New("grant is not for the pending attempt")
	// ErrStale: an offer or grant decided under an older state than we have seen.
	ErrStale = errors.New("offer or grant is older than what another KDC has said")

	errTooLong = errors.New("message longer than a transport message") // one of ours
	errSlow    = errors.New("connection closed: the other side does not keep up")

	// Of an offer or grant (rule 2): it names us wrongly, or the other side as ourselves; its peer is not what was asked
	// for; K, pub, enc, an SPI, the order or the suite is not what the suite asks for.
	errParty       = errors.New("offer or grant names the wrong parties")
	errDestination = errors.New("grant is for a peer that does not have the destination")
	errKeyMaterial = errors.New("unusable key material")
)
