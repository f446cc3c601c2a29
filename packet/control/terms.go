package control

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"ssmnet/packet"
)

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

// SessionID names a session to both peers and the KDC.
type SessionID [16]byte

// KeyID names a permanent key or a token; it is random and changes with the key.
type KeyID [8]byte

// Boot is the random id of one run of an SSM.
type Boot [16]byte

// Nonce is na: it ties a grant to the attempt that asked for it.
type Nonce [16]byte

func NewSessionID() (id SessionID) { rand.Read(id[:]); return }
func NewKeyID() (id KeyID)         { rand.Read(id[:]); return }
func NewBoot() (b Boot)            { rand.Read(b[:]); return }

func (id SessionID) String() string { return hex.EncodeToString(id[:]) }
func (id KeyID) String() string     { return hex.EncodeToString(id[:]) }
func (b Boot) String() string       { return hex.EncodeToString(b[:]) }

// ParseSessionID reads what String writes.
func ParseSessionID(s string) (id SessionID, err error) {
	err = fixedHex(id[:], s)
	return id, err
}

// Compare orders sessions of equal order: both sides send on the greatest.
func (id SessionID) Compare(o SessionID) int { return cmp.Compare(string(id[:]), string(o[:])) }

// The identifiers are CBOR byte strings of exactly their length. The codec alone would pad and cut, and take an array of
// numbers as well, to which UnmarshalBinary does not apply.
func (id SessionID) MarshalBinary() ([]byte, error)  { return id[:], nil }
func (id *SessionID) UnmarshalBinary(b []byte) error { return fixed(id[:], b) }
func (id KeyID) MarshalBinary() ([]byte, error)      { return id[:], nil }
func (id *KeyID) UnmarshalBinary(b []byte) error     { return fixed(id[:], b) }
func (b Boot) MarshalBinary() ([]byte, error)        { return b[:], nil }
func (b *Boot) UnmarshalBinary(from []byte) error    { return fixed(b[:], from) }
func (n Nonce) MarshalBinary() ([]byte, error)       { return n[:], nil }
func (n *Nonce) UnmarshalBinary(b []byte) error      { return fixed(n[:], b) }
func (id SessionID) MarshalText() ([]byte, error)    { return []byte(id.String()), nil }
func (id *SessionID) UnmarshalText(b []byte) error   { return fixedHex(id[:], string(b)) }
func (id KeyID) MarshalText() ([]byte, error)        { return []byte(id.String()), nil }
func (id *KeyID) UnmarshalText(b []byte) error       { return fixedHex(id[:], string(b)) }
func (b Boot) MarshalText() ([]byte, error)          { return []byte(b.String()), nil }
func (b *Boot) UnmarshalText(from []byte) error      { return fixedHex(b[:], string(from)) }

func (id *SessionID) UnmarshalCBOR(b []byte) error { return fixedCBOR(id[:], b) }
func (id *KeyID) UnmarshalCBOR(b []byte) error     { return fixedCBOR(id[:], b) }
func (b *Boot) UnmarshalCBOR(from []byte) error    { return fixedCBOR(b[:], from) }
func (n *Nonce) UnmarshalCBOR(b []byte) error      { return fixedCBOR(n[:], b) }

// fixedCBOR reads the one encoding of a byte string of the identifier's length, which is under 24 (RFC 8949, section 3).
func fixedCBOR(dst, item []byte) error {
	if len(item) == 0 || item[0] != 0x40|byte(len(dst)) {
		return fmt.Errorf("identifier is not a byte string of %d bytes", len(dst))
	}
	return fixed(dst, item[1:])
}

func fixed(dst, src []byte) error {
	if len(src) != len(dst) {
		return fmt.Errorf("identifier of %d bytes, want %d", len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

func fixedHex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil {
		return fmt.Errorf("identifier %q is not hexadecimal", s)
	}
	return fixed(dst, b)
}

// AsOf says which state of policy and peers something was decided under; it is ordered.
type AsOf struct {
	_        struct{} `cbor:",toarray"`
	Epoch    uint64   `json:"epoch"` // raised by init and restore
	Revision uint64   `json:"revision"`
}

// Before says whether a is older than b.
func (a AsOf) Before(b AsOf) bool {
	return a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Revision < b.Revision
}

func (a AsOf) String() string { return fmt.Sprintf("%d.%d", a.Epoch, a.Revision) }

// Party is one side of a session as the KDC tells it to both.
type Party struct {
	_        struct{} `cbor:",toarray"`
	Name     string
	KeyID    KeyID
	Boot     Boot
	Prefixes []netip.Prefix // overlay addresses and subnets: the inner addresses it may use
	SPI      packet.SPI     // by which it receives
}

// Covers says whether addr is one that the party may use inside.
func (p Party) Covers(addr netip.Addr) bool {
	for _, q := range p.Prefixes {
		if q.Contains(addr) {
			return true
		}
	}
	return false
}

// Terms are what the KDC lays down for a session.
type Terms struct {
	_           struct{} `cbor:",toarray"`
	Selectors   packet.Selectors
	RekeyMillis uint32
	IdleMillis  uint32
	GraceMillis uint32
	Until       int64 // wall clock, Unix seconds: the end of the earliest grant in it; zero for none
	AsOf        AsOf
}

// Rekey is the age at which a session is replaced by a fresh one.
func (t Terms) Rekey() time.Duration { return time.Duration(t.RekeyMillis) * time.Millisecond }

// Idle is the time without data after which a session is closed.
func (t Terms) Idle() time.Duration { return time.Duration(t.IdleMillis) * time.Millisecond }

// Grace is the time without any KDC after which sessions fail closed.
func (t Terms) Grace() time.Duration { return time.Duration(t.GraceMillis) * time.Millisecond }

var peerName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ValidName says whether s can name a peer.
func ValidName(s string) bool { return peerName.MatchString(s) }

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
