package control

import (
	"crypto/hpke"
	"fmt"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// Respond is the responder's half of the exchange: pure, without timers or I/O. It turns an offer into keys and the
// accept that tells the requester, by way of the KDC, how to derive the same. spi is the one the caller has reserved
// for the session; order is 1 + the highest it has had with that peer's present boot. The caller installs the keys
// before it sends the accept.
func Respond(self Self, o *KeyOffer, spi packet.SPI, order uint64) (keys *Keys, accept *KeyAccept, err error) {
	defer clear(o.K)
	if err := checkOffer(self, o); err != nil {
		return nil, nil, err
	}
	if spi == 0 || order == 0 {
		return nil, nil, ErrKeyMaterial // the requester would refuse it
	}
	b := o.B
	b.SPI = spi
	var d directionKeys
	var enc []byte
	secret.Do(func() {
		var x []byte
		if x, enc, err = encapsulate(o.Pub); err != nil {
			return
		}
		defer clear(x)
		d, err = schedule(o.K, x, &transcript{
			Version: Version, Suite: o.Suite, Session: o.Session, A: o.A, B: b,
			Na: o.Na, Pub: o.Pub, Enc: enc, Order: order, Terms: o.Terms,
		})
		enc = append([]byte(nil), enc...)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKeyMaterial, err)
	}
	keys = &Keys{
		Session: o.Session, Peer: o.A, Self: b, Suite: o.Suite, Order: order, Terms: o.Terms,
		Candidates: o.Candidates, Seal: d.toA, Open: d.toB,
	}
	accept = &KeyAccept{Session: o.Session, A: o.A.Name, B: b.Name, Enc: enc, SPI: spi, Order: order}
	return keys, accept, nil
}

// encapsulate makes X and enc for the requester's ephemeral. Call it inside secret.Do.
func encapsulate(pub []byte) (x, enc []byte, err error) {
	to, err := kem.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	enc, sender, err := hpke.NewSender(to, kdf, exportOnly, []byte(labelInfo))
	if err != nil {
		return nil, nil, err
	}
	x, err = sender.Export(labelExport, secret.Size)
	return x, enc, err
}

func checkOffer(self Self, o *KeyOffer) error {
	switch {
	case !self.is(o.B) || o.A.Name == self.Name:
		return ErrParty
	case o.Terms.AsOf.Before(self.AsOf):
		return ErrStale
	case len(o.K) != secret.Size || len(o.Pub) != PubLen || o.A.SPI == 0 ||
		o.Session == (SessionID{}) || !knownSuite(o.Suite):
		return ErrKeyMaterial
	}
	return nil
}
