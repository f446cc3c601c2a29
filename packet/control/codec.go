package control

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/fxamacker/cbor/v2"

	"ssmnet/packet"
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

// UnknownMessage stands for a message of a type that this version does not know.
type UnknownMessage struct{ Number Type }

// Type is the number on the wire.
func (u *UnknownMessage) Type() Type { return u.Number }

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

func (m *Hello) check() error {
	if err := checkSoftware(m.Software); err != nil {
		return err
	}
	return m.Reach.check()
}

func (m *Enrol) check() error { return checkSoftware(m.Software) }

func (m *Welcome) check() error { return m.Config.check() }
func (m *Update) check() error  { return m.Config.check() }

func (m *SessionReport) check() error {
	if len(m.Opened) > MaxReported || len(m.Closed) > MaxReported {
		return fmt.Errorf("more than %d sessions in one report", MaxReported)
	}
	for _, e := range m.Opened {
		if !ValidName(e.Requester) || !ValidName(e.Responder) {
			return fmt.Errorf("session %s between parties without valid names", e.ID)
		}
	}
	return nil
}

func (m *Revoke) check() error {
	if len(m.Sessions) > MaxReported {
		return fmt.Errorf("more than %d sessions in one revocation", MaxReported)
	}
	return nil
}

func (m *KeyRequest) check() error {
	if m.Flow == nil {
		if !ValidName(m.Peer) {
			return fmt.Errorf("neither a flow nor the name of a peer")
		}
		return nil
	}
	return checkFlow(m.Flow.Src, m.Flow.Dst)
}

func (m *Lookup) check() error {
	if m.Flow == nil {
		return nil
	}
	return checkFlow(m.Flow.Src, m.Flow.Dst)
}

func (m *Narrow) check() error   { return checkSelectors(m.Selectors) }
func (m *KeyOffer) check() error { return checkSession(m.A, m.B, m.Terms, m.Candidates) }
func (m *KeyGrant) check() error { return checkSession(m.A, m.B, m.Terms, m.Candidates) }

func (m *Endpoint) check() error {
	if m.Reach != nil {
		if err := m.Reach.check(); err != nil {
			return err
		}
	}
	return checkCandidates(m.Candidates)
}

func (r Reach) check() error {
	if len(r.Addresses) > MaxAddresses {
		return fmt.Errorf("more than %d interface addresses", MaxAddresses)
	}
	if r.Fixed.IsValid() {
		if err := checkCandidates([]netip.AddrPort{r.Fixed}); err != nil {
			return err
		}
	}
	return checkAddrs(r.Addresses)
}

func (c Config) check() error {
	if err := checkKDCs(c.KDCs); err != nil {
		return err
	}
	if err := checkAddrs(c.Addresses); err != nil {
		return err
	}
	for _, list := range [][]netip.Prefix{c.Subnets, c.Overlays, c.Routes} {
		if err := checkPrefixes(list); err != nil {
			return err
		}
	}
	return nil
}

func checkSession(a, b Party, t Terms, candidates []netip.AddrPort) error {
	for _, p := range []Party{a, b} {
		if !ValidName(p.Name) {
			return fmt.Errorf("party without a valid name")
		}
		if err := checkPrefixes(p.Prefixes); err != nil {
			return err
		}
	}
	if err := checkSelectors(t.Selectors); err != nil {
		return err
	}
	return checkCandidates(candidates)
}

// checkSelectors bounds also what it costs to narrow one list by another.
func checkSelectors(list packet.Selectors) error {
	if len(list) > packet.MaxSelectors {
		return fmt.Errorf("%d selectors, more than %d", len(list), packet.MaxSelectors)
	}
	for _, s := range list {
		if err := checkPrefixes([]netip.Prefix{s.Src, s.Dst}); err != nil {
			return err
		}
	}
	return nil
}

// checkSoftware keeps what ends up on an operator's terminal short and free of control characters.
func checkSoftware(s string) error {
	if len(s) > maxSoftware || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("software version of %d bytes is too long or not printable", len(s))
	}
	return nil
}

func checkFlow(src, dst netip.Addr) error {
	if err := checkAddrs([]netip.Addr{src, dst}); err != nil {
		return err
	}
	if src.Is4() != dst.Is4() {
		return fmt.Errorf("flow between two address families")
	}
	return nil
}

func checkAddrs(list []netip.Addr) error {
	for _, a := range list {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("address %q is not a plain IPv4 or IPv6 address", a)
		}
	}
	return nil
}

func checkPrefixes(list []netip.Prefix) error {
	for _, p := range list {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("prefix %q is not in canonical form", p)
		}
	}
	return nil
}

func checkCandidates(list []netip.AddrPort) error {
	if len(list) > MaxCandidates {
		return fmt.Errorf("more than %d candidates", MaxCandidates)
	}
	for _, c := range list {
		if err := checkAddrs([]netip.Addr{c.Addr()}); err != nil {
			return err
		}
		if c.Port() == 0 {
			return fmt.Errorf("candidate %s without a port", c)
		}
	}
	return nil
}

// checkKDCs takes an empty list: the KDC then leaves the addresses as they are.
func checkKDCs(list []string) error {
	if len(list) > MaxAddresses {
		return fmt.Errorf("more than %d KDCs", MaxAddresses)
	}
	for _, a := range list {
		if err := CheckAddress(a); err != nil {
			return err
		}
	}
	return nil
}
