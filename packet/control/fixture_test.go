package control

import (
	"bytes"
	"net/netip"
	"testing"

	"ssmnet/packet"
)

// The fixtures: two peers, a and b, and a third, c, whose grants must never serve a. Everything in them is fixed, so
// that they serve the vectors too.

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func filled(n int, from byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func party(name string, n byte, spi packet.SPI, list ...string) Party {
	p := Party{Name: name, Prefixes: prefixes(list...), SPI: spi}
	copy(p.KeyID[:], filled(8, n))
	copy(p.Boot[:], filled(16, n+8))
	return p
}

func selfOf(p Party) Self {
	return Self{Name: p.Name, KeyID: p.KeyID, Boot: p.Boot, AsOf: AsOf{Epoch: 2, Revision: 40}}
}

var (
	partyA = party("a", 0xa0, 0x1a1a1a1a, "100.80.0.1/32", "fd00::1/128")
	partyB = party("b", 0xb0, 0x2b2b2b2b, "100.80.0.2/32", "fd00::2/128", "10.2.0.0/16")
	partyC = party("c", 0xc0, 0x3c3c3c3c, "100.80.0.3/32")
)

func flowToB() *packet.Flow {
	return &packet.Flow{
		Protocol: packet.TCP, Class: packet.Complete, SrcPort: 40000, DstPort: 443,
		Src: netip.MustParseAddr("100.80.0.1"), Dst: netip.MustParseAddr("100.80.0.2"),
	}
}

func termsFixture() Terms {
	return Terms{
		Selectors: packet.Selectors{
			{
				Src: prefixes("100.80.0.1/32")[0], Dst: prefixes("100.80.0.2/32")[0],
				Protocol: packet.TCP, Ports: packet.PortRange{Lo: 443, Hi: 443},
			},
			{Src: prefixes("fd00::1/128")[0], Dst: prefixes("fd00::2/128")[0], Ports: packet.AllPorts},
		},
		RekeyMillis: 600_000, IdleMillis: 180_000, GraceMillis: 900_000, Until: 1_900_000_000,
		AsOf: AsOf{Epoch: 2, Revision: 41},
	}
}

func session(n byte) (id SessionID) {
	copy(id[:], filled(16, n))
	return id
}

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
		Digest: Digest(filled(16, 0xd0)), AgeMillis: 61_000, AsOf: AsOf{Epoch: 2, Revision: 41},
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
		&NarrowAck{Session: session(0x50), AsOf: AsOf{Epoch: 2, Revision: 42}, Digest: entryFixture().Digest},
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

// attempt is one exchange between a and b through an honest KDC, up to the grant that a has not yet taken.
type attempt struct {
	r      *Requester
	req    *KeyRequest
	offer  *KeyOffer // what b took; its K is cleared
	keysB  *Keys
	accept *KeyAccept
	grant  *KeyGrant
}

// exchange runs steps 2 and 3. change, which may be nil, edits the offer on its way to b.
func exchange(t testing.TB, want Want, change func(*KeyOffer)) *attempt {
	t.Helper()
	r, err := NewRequester(selfOf(partyA), want, partyA.SPI)
	if err != nil {
		t.Fatal(err)
	}
	x := &attempt{r: r, req: r.Request()}
	k := filled(32, 0x10)
	b := partyB
	b.SPI = 0
	x.offer = &KeyOffer{
		Session: session(0x50), A: partyA, B: b, Na: x.req.Na, K: bytes.Clone(k), Pub: bytes.Clone(x.req.Pub),
		Suite: packet.AES256GCM, Terms: termsFixture(),
	}
	if change != nil {
		change(x.offer)
	}
	if x.keysB, x.accept, err = Respond(selfOf(partyB), x.offer, partyB.SPI, 7); err != nil {
		t.Fatalf("Respond: %v", err)
	}
	x.grant = &KeyGrant{
		Session: session(0x50), A: partyA, B: partyB, Na: x.req.Na, K: k, Enc: bytes.Clone(x.accept.Enc),
		Suite: packet.AES256GCM, Order: x.accept.Order, Terms: termsFixture(),
	}
	return x
}

// agree says whether the two sides can read each other, in either direction.
func agree(a, b *Keys) bool { return a.Seal.Equal(b.Open) || a.Open.Equal(b.Seal) }
