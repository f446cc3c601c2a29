package control

// The SSMs' half of the four steps (package doc, "The four steps"), as pure functions without timers or I/O. The caller
// reserves SPIs, keeps time and carries the messages.
//
//	requester                                    responder
//	NewRequester         na, pub, spiA
//	Requester.Request    2 KeyRequest ->
//	                                             3 -> KeyOffer     Respond
//	                                             <- KeyAccept      enc, spiB, order, keys
//	Requester.Grant      3 <- KeyGrant
//	                     keys

import (
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
