package control

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"

	"ssmnet/packet"
)

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

// DigestSelectors names the list by its content and order.
func DigestSelectors(ss packet.Selectors) (d Digest) {
	b, err := encoding.Marshal(ss)
	if err != nil {
		panic(err) // plain values always encode
	}
	h := sha256.Sum256(b)
	copy(d[:], h[:])
	return d
}
