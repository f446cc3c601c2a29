package control

import (
	"bytes"
	"crypto/hpke"
	"crypto/rand"
	"fmt"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// Want is what a request asks for: the peer that has a flow's destination or, where Flow is nil, a peer by name.
type Want struct {
	Flow *packet.Flow
	Peer string
}

// met checks that b is what was asked for (rule 2).
func (w Want) met(b Party) bool {
	if w.Flow != nil {
		return packet.Covers(b.Prefixes, w.Flow.Dst) && (w.Peer == "" || w.Peer == b.Name)
	}
	return b.Name == w.Peer
}

// Requester is the requester's half of one attempt (rule 6). It goes one way, and a call out of turn panics:
//
//	made -- Request --> asked -- Grant --> over
//
// A grant with another na leaves it asked; Abandon ends it from anywhere.
type Requester struct {
	self    Self
	want    Want
	spi     packet.SPI
	na      Nonce
	pub     []byte
	private hpke.PrivateKey // nil once over
	turn    turn
}

type turn uint8

const (
	made turn = iota
	asked
	over
)

// NewRequester begins an attempt: fresh na, fresh ephemeral, and the SPI that the caller has reserved for it.
func NewRequester(self Self, want Want, spi packet.SPI) (r *Requester, err error) {
	r = &Requester{self: self, want: want, spi: spi}
	rand.Read(r.na[:])
	secret.Do(func() {
		if r.private, err = kem.GenerateKey(); err == nil {
			r.pub = bytes.Clone(r.private.PublicKey().Bytes())
		}
	})
	if err != nil {
		return nil, fmt.Errorf("making an ephemeral key: %w", err)
	}
	return r, nil
}

// Format shows that there is an attempt: fmt would print the ephemeral private key out of an unexported field.
func (Requester) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[attempt]") }

// Na is the attempt's nonce, which its grant or denial echoes.
func (r *Requester) Na() Nonce { return r.na }

// Request is step 2. It goes to one KDC: after a failure, begin another attempt.
func (r *Requester) Request() *KeyRequest {
	r.only(made)
	r.turn = asked
	return &KeyRequest{Flow: r.want.Flow, Peer: r.want.Peer, Na: r.na, Pub: r.pub, SPI: r.spi, AsOf: r.self.AsOf}
}

// Abandon ends the attempt: there is to be no grant for it. It may be called at any time.
func (r *Requester) Abandon() { r.turn, r.private = over, nil }

func (r *Requester) only(t turn) {
	if r.turn != t {
		panic("control: an attempt is used once, in its order")
	}
}

// Grant is step 3: it turns the KDC's yes into keys, after checking that it answers this attempt (rule 2). seen is the
// highest as_of seen by now. Whatever it returns, the attempt is over, but for ErrNonce: that grant was not for it.
func (r *Requester) Grant(g *KeyGrant, seen AsOf) (*Keys, error) {
	defer clear(g.K)
	r.only(asked)
	if g.Na != r.na {
		return nil, ErrNonce
	}
	private := r.private
	r.Abandon()
	if err := r.check(g, seen); err != nil {
		return nil, err
	}
	t := &transcript{
		Version: Version, Suite: g.Suite, Session: g.Session, A: g.A, B: g.B,
		Na: r.na, Pub: r.pub, Enc: g.Enc, Order: g.Order, Terms: g.Terms,
	}
	var d directionKeys
	var err error
	secret.Do(func() {
		var x []byte
		if x, err = decapsulate(g.Enc, private); err != nil {
			return
		}
		defer clear(x)
		d, err = schedule(g.K, x, t)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeyMaterial, err)
	}
	return &Keys{
		Session: g.Session, Requester: true, Peer: g.B, Self: g.A, Suite: g.Suite, Order: g.Order, Terms: g.Terms,
		Candidates: g.Candidates, Seal: d.toB, Open: d.toA,
	}, nil
}

func (r *Requester) check(g *KeyGrant, seen AsOf) error {
	switch {
	case !r.self.is(g.A) || g.A.SPI != r.spi || g.B.Name == r.self.Name:
		return errParty
	case !r.want.met(g.B):
		return errDestination
	case g.Terms.AsOf.Before(seen) || g.Terms.AsOf.Before(r.self.AsOf):
		return ErrStale
	case len(g.K) != secret.Size || len(g.Enc) != EncLen || g.B.SPI == 0 || g.Order == 0 ||
		g.Session == (SessionID{}) || !g.Suite.Known():
		return errKeyMaterial
	}
	return nil
}
