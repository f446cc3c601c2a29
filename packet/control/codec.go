package control

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Envelope is one message with its request id: zero where it is neither call nor reply.
type Envelope struct {
	ID      uint64
	Message Message
}

// wire is the message as it stands in the plaintext: [type, request id, body].
type wire struct {
	_    struct{} `cbor:",toarray"`
	Type Type
	ID   uint64
	Body cbor.RawMessage
}

var (
	encoding = must(encodingOptions().UserBufferEncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		UTF8:             cbor.UTF8RejectInvalid,
		MaxNestedLevels:  8,
		MaxArrayElements: MaxList,
		MaxMapPairs:      64,
	}.DecMode())
)

func must[M any](mode M, err error) M {
	if err != nil {
		panic(err) // the options above are constants
	}
	return mode
}

// encodingOptions leave one encoding for each value: an empty list and no list are the same to both sides' transcripts.
func encodingOptions() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

// Room for the encoding of things, in bytes.
const (
	usualMessage = 4 << 10 // nearly every message; of those with keys, all but the lists that follow
	maxSelector  = 64
	maxPrefix    = 24
	maxEnvelope  = 32 // all of it but the body
)

// room is never less than a message with a key takes: an encoder that needs more memory than it was given leaves behind,
// unerased, what it has written.
func room(m Message) int {
	switch m := m.(type) {
	case *KeyOffer:
		return sessionRoom(m.A, m.B, m.Terms)
	case *KeyGrant:
		return sessionRoom(m.A, m.B, m.Terms)
	}
	return usualMessage
}

func sessionRoom(a, b Party, t Terms) int {
	return usualMessage + maxPrefix*(len(a.Prefixes)+len(b.Prefixes)) + maxSelector*len(t.Selectors)
}

// encode encodes v into memory of its own, not into the codec's pool, which would keep what may be a key.
func encode(v any, room int) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, room))
	if err := encoding.MarshalToBuffer(v, b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Marshal encodes one message. The caller clears the result: it may hold a key.
func Marshal(e Envelope) ([]byte, error) {
	body, err := encode(e.Message, room(e.Message))
	if err != nil {
		return nil, fmt.Errorf("encoding message %d: %w", e.Message.Type(), err)
	}
	defer clear(body)
	return encode(wire{Type: e.Message.Type(), ID: e.ID, Body: body}, len(body)+maxEnvelope)
}

// Unmarshal decodes one message and checks what can be checked of it alone. Everything is copied out of b.
func Unmarshal(b []byte) (Envelope, error) {
	var w wire
	if err := decoding.Unmarshal(b, &w); err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	defer clear(w.Body)
	m := newMessage(w.Type)
	if m == nil {
		return Envelope{ID: w.ID, Message: &UnknownMessage{w.Type}}, nil
	}
	if err := decoding.Unmarshal(w.Body, m); err != nil {
		return Envelope{}, fmt.Errorf("%w %d: %w", ErrMalformed, w.Type, err)
	}
	if c, ok := m.(interface{ check() error }); ok {
		if err := c.check(); err != nil {
			return Envelope{}, fmt.Errorf("%w %d: %w", ErrMalformed, w.Type, err)
		}
	}
	return Envelope{ID: w.ID, Message: m}, nil
}
