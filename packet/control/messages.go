package control

import (
	"net/netip"

	"ssmnet/packet"
)

// Reach is how an SSM may be reached on the underlay.
type Reach struct {
	Port      uint16         `cbor:"1,keyasint"` // UDP
	Addresses []netip.Addr   `cbor:"2,keyasint"` // of its interfaces, at most MaxAddresses
	Fixed     netip.AddrPort `cbor:"3,keyasint"` // configured by its operator; zero for none
}

// Hello opens a connection: it says which run of the SSM this is.
type Hello struct {
	Boot     Boot   `cbor:"1,keyasint"`
	Reach    Reach  `cbor:"2,keyasint"`
	AES      bool   `cbor:"3,keyasint"` // the CPU has AES instructions
	Sessions uint32 `cbor:"4,keyasint"` // how many the reports that follow will list
	Software string `cbor:"5,keyasint"` // version, for the operator's eyes
}

// Config is what the KDC tells an SSM about itself and the network.
type Config struct {
	Name      string         `cbor:"1,keyasint"`
	Addresses []netip.Addr   `cbor:"2,keyasint"` // its overlay addresses
	Subnets   []netip.Prefix `cbor:"3,keyasint"` // its own
	Overlays  []netip.Prefix `cbor:"4,keyasint"`
	Routes    []netip.Prefix `cbor:"5,keyasint"` // subnets of others that policy lets it use
	KDCs      []string       `cbor:"6,keyasint"` // HOST:PORT of each
	AsOf      AsOf           `cbor:"7,keyasint"`
}

// Welcome answers Hello. Detached is as in Pong.
type Welcome struct {
	Config   Config `cbor:"1,keyasint"`
	KDC      Boot   `cbor:"2,keyasint"` // this run of this KDC
	Detached bool   `cbor:"3,keyasint"`
}

// Update replaces what Welcome said.
type Update struct {
	Config Config `cbor:"1,keyasint"`
}

// SessionEntry is a live session as one of its sides reports it.
type SessionEntry struct {
	ID        SessionID `cbor:"1,keyasint"`
	Requester string    `cbor:"2,keyasint"`
	Responder string    `cbor:"3,keyasint"`
	BootA     Boot      `cbor:"4,keyasint"`
	BootB     Boot      `cbor:"5,keyasint"`
	Digest    Digest    `cbor:"6,keyasint"` // which selectors it enforces
	AgeMillis uint64    `cbor:"7,keyasint"`
	AsOf      AsOf      `cbor:"8,keyasint"`
}

// SessionReport says which sessions are live: all of them after Hello (the last such report marked), afterwards those
// opened and closed since.
type SessionReport struct {
	Opened []SessionEntry `cbor:"1,keyasint"`
	Closed []SessionID    `cbor:"2,keyasint"`
	Last   bool           `cbor:"3,keyasint"`
}

// KeyRequest is step 2. It asks for a flow or, where Flow is nil, for a peer by name.
type KeyRequest struct {
	Flow *packet.Flow `cbor:"1,keyasint"`
	Peer string       `cbor:"2,keyasint"`
	Na   Nonce        `cbor:"3,keyasint"`
	Pub  []byte       `cbor:"4,keyasint"`
	SPI  packet.SPI   `cbor:"5,keyasint"`
	AsOf AsOf         `cbor:"6,keyasint"` // the highest seen
}

// KeyOffer is step 3 towards the responder.
type KeyOffer struct {
	Session    SessionID        `cbor:"1,keyasint"`
	A          Party            `cbor:"2,keyasint"`
	B          Party            `cbor:"3,keyasint"` // SPI zero: the responder chooses it
	Na         Nonce            `cbor:"4,keyasint"`
	K          KeyBytes         `cbor:"5,keyasint"`
	Pub        []byte           `cbor:"6,keyasint"`
	Suite      packet.Suite     `cbor:"7,keyasint"`
	Terms      Terms            `cbor:"8,keyasint"`
	Candidates []netip.AddrPort `cbor:"9,keyasint"` // of A
}

// KeyAccept is the responder's yes.
type KeyAccept struct {
	Session SessionID  `cbor:"1,keyasint"`
	A       string     `cbor:"2,keyasint"`
	B       string     `cbor:"3,keyasint"`
	Enc     []byte     `cbor:"4,keyasint"`
	SPI     packet.SPI `cbor:"5,keyasint"`
	Order   uint64     `cbor:"6,keyasint"`
}

// KeyGrant is step 3 towards the requester.
type KeyGrant struct {
	Session    SessionID        `cbor:"1,keyasint"`
	A          Party            `cbor:"2,keyasint"`
	B          Party            `cbor:"3,keyasint"`
	Na         Nonce            `cbor:"4,keyasint"`
	K          KeyBytes         `cbor:"5,keyasint"`
	Enc        []byte           `cbor:"6,keyasint"`
	Suite      packet.Suite     `cbor:"7,keyasint"`
	Order      uint64           `cbor:"8,keyasint"`
	Terms      Terms            `cbor:"9,keyasint"`
	Candidates []netip.AddrPort `cbor:"10,keyasint"` // of B
}

// KeyDenial is the no to a KeyRequest, or the responder's to a KeyOffer.
type KeyDenial struct {
	Na     Nonce  `cbor:"1,keyasint"`
	Reason Reason `cbor:"2,keyasint"`
}

// Revoke names sessions that the SSM destroys at once. Their ids are remembered, so that a late grant is refused.
type Revoke struct {
	Sessions []SessionID `cbor:"1,keyasint"`
	Reason   Reason      `cbor:"2,keyasint"`
	AsOf     AsOf        `cbor:"3,keyasint"`
}

// RevokeAck is the receipt: the sessions named in the Revoke are gone.
type RevokeAck struct {
	Sessions []SessionID `cbor:"1,keyasint"`
}

// Narrow says what policy permits the pair of a session now, which is less than the session carries.
type Narrow struct {
	Session   SessionID        `cbor:"1,keyasint"`
	Selectors packet.Selectors `cbor:"2,keyasint"`
	AsOf      AsOf             `cbor:"3,keyasint"`
}

// NarrowAck is the receipt: from now on the session carries no more than what the Narrow left it.
type NarrowAck struct {
	Session SessionID `cbor:"1,keyasint"`
	AsOf    AsOf      `cbor:"2,keyasint"` // of the Narrow, or of one that had narrowed it further
	Digest  Digest    `cbor:"3,keyasint"` // those that it has now; zero where there is no such session
}

// Endpoint carries changed candidates: from an SSM its own Reach, from the KDC those of a peer it has a session with.
type Endpoint struct {
	Reach      *Reach           `cbor:"1,keyasint"`
	Peer       string           `cbor:"2,keyasint"`
	Candidates []netip.AddrPort `cbor:"3,keyasint"`
}

// Lookup asks who has a destination, by name or by flow, and what would be decided.
type Lookup struct {
	Name string       `cbor:"1,keyasint"`
	Flow *packet.Flow `cbor:"2,keyasint"`
}

// LookupReply answers Lookup.
type LookupReply struct {
	Peer      string         `cbor:"1,keyasint"` // empty: unknown, or not the asker's to know
	Addresses []netip.Addr   `cbor:"2,keyasint"`
	Prefixes  []netip.Prefix `cbor:"3,keyasint"`
	Online    bool           `cbor:"4,keyasint"`
	Permitted bool           `cbor:"5,keyasint"`
	Grant     string         `cbor:"6,keyasint"` // id of the grant that permits the flow or, disabled or past its until, would
	Reason    Reason         `cbor:"7,keyasint"`
	Replies   bool           `cbor:"8,keyasint"` // the flow is permitted as the replies of one that the peer starts
}

// RotateKey delivers the permanent key that is to replace the one its connection runs under. It needs no answer: the key
// is proven when a message verifies under it.
type RotateKey struct {
	KeyID KeyID    `cbor:"1,keyasint"`
	Key   KeyBytes `cbor:"2,keyasint"`
}

// Enrol asks, under a token, for the permanent key.
type Enrol struct {
	Software string `cbor:"1,keyasint"`
}

// EnrolGrant delivers the permanent key. The token dies when a message verifies under that key.
type EnrolGrant struct {
	Name  string   `cbor:"1,keyasint"`
	KeyID KeyID    `cbor:"2,keyasint"`
	Key   KeyBytes `cbor:"3,keyasint"`
	KDCs  []string `cbor:"4,keyasint"`
}

// Ping asks for a Pong.
type Ping struct{}

// Pong answers Ping, or tells unasked that Detached has changed. AsOf and Detached are the KDC's to say.
type Pong struct {
	AsOf     AsOf `cbor:"1,keyasint"`
	Detached bool `cbor:"2,keyasint"`
}

// Refusal says that a message was not taken, and why.
type Refusal struct {
	Refused Type   `cbor:"1,keyasint"`
	Reason  Reason `cbor:"2,keyasint"`
}
