package control

import (
	"fmt"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// Respond is step 3 at the responder: it turns an offer into keys and the accept that tells the requester, by way of the
// KDC, how to derive the same. spi is the one the caller has reserved for the session; order is 1 + the highest it has had
// with that peer's present boot. The caller installs the keys before it sends the accept.
func Respond(self Self, o *KeyOffer, spi packet.SPI, order uint64) (*Keys, *KeyAccept, error) {
	defer clear(o.K)
	if err := checkOffer(self, o); err != nil {
		return nil, nil, err
	}
	if spi == 0 || order == 0 {
		return nil, nil, errKeyMaterial // the requester would refuse it
	}
	b := o.B
	b.SPI = spi
	t := &transcript{
		Version: Version, Suite: o.Suite, Session: o.Session, A: o.A, B: b,
		Na: o.Na, Pub: o.Pub, Order: order, Terms: o.Terms,
	}
	var d directionKeys
	var err error
	secret.Do(func() {
		var x []byte
		if x, t.Enc, err = encapsulate(o.Pub); err != nil {
			return
		}
		defer clear(x)
		d, err = schedule(o.K, x, t)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errKeyMaterial, err)
	}
	keys := &Keys{
		Session: o.Session, Peer: o.A, Self: b, Suite: o.Suite, Order: order, Terms: o.Terms,
		Candidates: o.Candidates, Seal: d.toA, Open: d.toB,
	}
	return keys, &KeyAccept{Session: o.Session, A: o.A.Name, B: b.Name, Enc: t.Enc, SPI: spi, Order: order}, nil
}

func checkOffer(self Self, o *KeyOffer) error {
	switch {
	case !self.is(o.B) || o.A.Name == self.Name:
		return errParty
	case o.Terms.AsOf.Before(self.AsOf):
		return ErrStale
	case len(o.K) != secret.Size || len(o.Pub) != PubLen || o.A.SPI == 0 ||
		o.Session == (SessionID{}) || !o.Suite.Known():
		return errKeyMaterial
	}
	return nil
}
