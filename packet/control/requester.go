package control

import (
	"crypto/hpke"
	"crypto/rand"
	"fmt"
	"net/netip"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// Self is what an SSM knows about itself when it takes part in an exchange.
type Self struct {
	Name  string
	KeyID KeyID // of the permanent key its connection runs under
	Boot  Boot
	AsOf  AsOf // the highest it has seen from any KDC
}

// is checks that p names us.
func (s Self) is(p Party) bool { return p.Name == s.Name && p.KeyID == s.KeyID && p.Boot == s.Boot }

// Want is what a request asks for: the peer that has a flow's destination or, where Flow is nil, a peer by name.
type Want struct {
	Flow *packet.Flow
	Peer string
}

// met checks that b is what was asked for (rule 2).
func (w Want) met(b Party) bool {
	if w.Flow != nil {
		return b.Covers(w.Flow.Dst) && (w.Peer == "" || w.Peer == b.Name)
	}
	return b.Name == w.Peer
}

// Keys are what one side has when the exchange is done: everything for its half of the session. The holder makes a
// Sealer and an Opener of the two keys and destroys them.
type Keys struct {
	Session    SessionID
	Requester  bool // whether we are
	Peer       Party
	Self       Party
	Suite      packet.Suite
	Order      uint64
	Terms      Terms
	Candidates []netip.AddrPort // of the peer, in the order to be tried
	Seal       secret.Key       // for frames to the peer, sent to Peer.SPI
	Open       secret.Key       // for frames from the peer, received on Self.SPI
}

// Destroy ends both keys.
func (k *Keys) Destroy() {
	k.Seal.Destroy()
	k.Open.Destroy()
}

// Requester is the requester's half of one attempt: pure, without timers or I/O. It is used once.
type Requester struct {
	self    Self
	want    Want
	spi     packet.SPI
	na      Nonce
	pub     []byte
	private hpke.PrivateKey // nil once used or abandoned
}

// NewRequester begins an attempt: fresh na, fresh ephemeral, and the SPI that the caller has reserved for it.
func NewRequester(self Self, want Want, spi packet.SPI) (r *Requester, err error) {
	r = &Requester{self: self, want: want, spi: spi}
	rand.Read(r.na[:])
	secret.Do(func() {
		if r.private, err = kem.GenerateKey(); err == nil {
			r.pub = append([]byte(nil), r.private.PublicKey().Bytes()...)
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

// Request is step 2. It may be sent to one KDC only: after a failure, begin another attempt.
func (r *Requester) Request() *KeyRequest {
	return &KeyRequest{Flow: r.want.Flow, Peer: r.want.Peer, Na: r.na, Pub: r.pub, SPI: r.spi, AsOf: r.self.AsOf}
}

// Abandon ends the attempt; a grant for it is refused from now on.
func (r *Requester) Abandon() { r.private = nil }

// Grant turns the KDC's yes into keys, after checking that it answers this attempt (rule 2). seen is the highest as_of
// seen by now. Whatever it returns, the attempt is over, but for ErrNonce: that grant was not for it.
func (r *Requester) Grant(g *KeyGrant, seen AsOf) (keys *Keys, err error) {
	defer clear(g.K)
	if g.Na != r.na {
		return nil, ErrNonce
	}
	if r.private == nil {
		return nil, ErrSpent
	}
	private := r.private
	r.private = nil
	if err := r.check(g, seen); err != nil {
		return nil, err
	}
	t := &transcript{
		Version: Version, Suite: g.Suite, Session: g.Session, A: g.A, B: g.B,
		Na: r.na, Pub: r.pub, Enc: g.Enc, Order: g.Order, Terms: g.Terms,
	}
	var d directionKeys
	secret.Do(func() {
		var from *hpke.Recipient
		if from, err = hpke.NewRecipient(g.Enc, private, kdf, exportOnly, []byte(labelInfo)); err != nil {
			return
		}
		var x []byte
		if x, err = from.Export(labelExport, secret.Size); err != nil {
			return
		}
		defer clear(x)
		d, err = schedule(g.K, x, t)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyMaterial, err)
	}
	return &Keys{
		Session: g.Session, Requester: true, Peer: g.B, Self: g.A, Suite: g.Suite, Order: g.Order, Terms: g.Terms,
		Candidates: g.Candidates, Seal: d.toB, Open: d.toA,
	}, nil
}

func (r *Requester) check(g *KeyGrant, seen AsOf) error {
	switch {
	case !r.self.is(g.A) || g.A.SPI != r.spi || g.B.Name == r.self.Name:
		return ErrParty
	case !r.want.met(g.B):
		return ErrDestination
	case g.Terms.AsOf.Before(seen) || g.Terms.AsOf.Before(r.self.AsOf):
		return ErrStale
	case len(g.K) != secret.Size || len(g.Enc) != EncLen || g.B.SPI == 0 || g.Order == 0 ||
		g.Session == (SessionID{}) || !knownSuite(g.Suite):
		return ErrKeyMaterial
	}
	return nil
}

func knownSuite(s packet.Suite) bool { return s == packet.AES256GCM || s == packet.ChaCha20Poly1305 }
