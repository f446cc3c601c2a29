package control

import (
	"bytes"
	"net/netip"

	"ssmnet/packet"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func candidates(list ...string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

func reachFixture() Reach {
	return Reach{
		Port: 7601, Addresses: addrs("192.0.2.10", "2001:db8::10"),
		Fixed: netip.MustParseAddrPort("198.51.100.1:7601"),
	}
}

func configFixture() Config {
	return Config{
		Name: "a", Addresses: addrs("100.80.0.1", "fd00::1"), Subnets: prefixes("10.1.0.0/16"),
		Overlays: prefixes("100.80.0.0/16", "fd00::/64"), Routes: prefixes("10.2.0.0/16"),
		KDCs: []string{"kdc1.example:7600", "[2001:db8::1]:7600"}, AsOf: AsOf{Epoch: 2, Revision: 41},
	}
}

func entryFixture() SessionEntry {
	return SessionEntry{
		ID: session(0x50), Requester: "a", Responder: "b", BootA: partyA.Boot, BootB: partyB.Boot,
		Selectors: Digest(filled(16, 0xd0)), AgeMillis: 61_000, AsOf: AsOf{Epoch: 2, Revision: 41},
	}
}

// everyMessage is one message of each type, with every field set.
func everyMessage() []Message {
	na := Nonce(filled(16, 0x70))
	pub, enc := bytes.Repeat([]byte{0xcc}, PubLen), bytes.Repeat([]byte{0xdd}, EncLen)
	responder, reach := partyB, reachFixture()
	responder.SPI = 0
	return []Message{
		&Hello{Boot: partyA.Boot, Reach: reachFixture(), AES: true, Sessions: 3, Software: "ssm 1.0.0 linux/amd64"},
		&Welcome{Config: configFixture(), KDC: Boot(filled(16, 0xe0)), Detached: true},
		&Update{Config: configFixture()},
		&SessionReport{Opened: []SessionEntry{entryFixture()}, Closed: []SessionID{session(1), session(2)}, Last: true},
		&KeyRequest{Flow: flowToB(), Peer: "b", Na: na, Pub: pub, SPI: partyA.SPI, AsOf: AsOf{Epoch: 2, Revision: 40}},
		&KeyOffer{
			Session: session(0x50), A: partyA, B: responder, Na: na, K: filled(32, 0x10), Pub: pub, Suite: packet.AES256GCM,
			Terms: termsFixture(), Candidates: candidates("192.0.2.10:7601", "[2001:db8::10]:7601"),
		},
		&KeyAccept{Session: session(0x50), A: "a", B: "b", Enc: enc, SPI: partyB.SPI, Order: 7},
		&KeyGrant{
			Session: session(0x50), A: partyA, B: partyB, Na: na, K: filled(32, 0x10), Enc: enc, Suite: packet.ChaCha20Poly1305,
			Order: 7, Terms: termsFixture(), Candidates: candidates("198.51.100.2:7601"),
		},
		&KeyDenial{Na: na, Reason: Offline},
		&Narrow{Session: session(0x50), Selectors: termsFixture().Selectors, AsOf: AsOf{Epoch: 2, Revision: 42}},
		&NarrowAck{Session: session(0x50), AsOf: AsOf{Epoch: 2, Revision: 42}, Selectors: entryFixture().Selectors},
		&Revoke{Sessions: []SessionID{session(0x50)}, Reason: Changed, AsOf: AsOf{Epoch: 2, Revision: 42}},
		&RevokeAck{Sessions: []SessionID{session(0x50)}},
		&Endpoint{Reach: &reach, Peer: "b", Candidates: candidates("192.0.2.20:7601")},
		&Lookup{Name: "b", Flow: flowToB()},
		&LookupReply{
			Peer: "b", Addresses: addrs("100.80.0.2"), Prefixes: prefixes("100.80.0.2/32"), Online: true, Permitted: true,
			Grant: "web", Reason: Denied, Replies: true,
		},
		&RotateKey{KeyID: partyA.KeyID, Key: filled(32, 0x20)},
		&Enrol{Software: "ssm 1.0.0 linux/amd64"},
		&EnrolGrant{Name: "a", KeyID: partyA.KeyID, Key: filled(32, 0x20), KDCs: []string{"kdc1.example:7600"}},
		&Ping{},
		&Pong{AsOf: AsOf{Epoch: 2, Revision: 41}, Detached: true},
		&Refusal{Refused: TypeHello, Reason: Conflict},
	}
}
