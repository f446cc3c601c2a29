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
