package control

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"slices"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

func TestExchangeAgrees(t *testing.T) {
	for name, want := range map[string]Want{
		"by flow": {Flow: flowToB()}, "by name": {Peer: "b"}, "by both": {Flow: flowToB(), Peer: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			x := exchange(t, want, nil)
			plain, err := Marshal(Envelope{ID: 3, Message: x.grant})
			if err != nil {
				t.Fatal(err)
			}
			e, err := Unmarshal(plain) // what crosses the wire derives the same
			if err != nil {
				t.Fatal(err)
			}
			a, err := x.r.Grant(e.Message.(*KeyGrant), AsOf{})
			if err != nil {
				t.Fatal(err)
			}
			if !a.Seal.Equal(x.keysB.Open) || !a.Open.Equal(x.keysB.Seal) {
				t.Error("the two sides' keys do not correspond")
			}
			if !a.Requester || x.keysB.Requester || a.Order != 7 || a.Session != x.keysB.Session {
				t.Errorf("requester %+v, responder %+v", a, x.keysB)
			}
			if !reflect.DeepEqual(a.Peer, x.keysB.Self) || !reflect.DeepEqual(a.Self, x.keysB.Peer) {
				t.Errorf("parties differ: %+v, %+v", a, x.keysB)
			}
		})
	}
}

// Rule 2, at the requester. Each case breaks one thing in a good grant.
func TestGrantRefused(t *testing.T) {
	seen := AsOf{Epoch: 2, Revision: 41}
	for _, c := range []struct {
		name   string
		change func(*KeyGrant)
		want   error
	}{
		{"another na", func(g *KeyGrant) { g.Na[3] ^= 1 }, ErrNonce},
		{"no na", func(g *KeyGrant) { g.Na = Nonce{} }, ErrNonce},
		{"A's name", func(g *KeyGrant) { g.A.Name = "c" }, errParty},
		{"A's key id", func(g *KeyGrant) { g.A.KeyID[0] ^= 1 }, errParty},
		{"A's boot", func(g *KeyGrant) { g.A.Boot[15] ^= 1 }, errParty},
		{"A's SPI", func(g *KeyGrant) { g.A.SPI++ }, errParty},
		{"B is A", func(g *KeyGrant) { g.B.Name = "a" }, errParty},
		{"A and B swapped", func(g *KeyGrant) { g.A, g.B = g.B, g.A }, errParty},
		{"peer without the destination", func(g *KeyGrant) { g.B = partyC }, errDestination},
		{"peer without prefixes", func(g *KeyGrant) { g.B.Prefixes = nil }, errDestination},
		{"destination only in A's prefixes", func(g *KeyGrant) {
			g.A.Prefixes, g.B.Prefixes = g.B.Prefixes, g.A.Prefixes
		}, errDestination},
		{"stale revision", func(g *KeyGrant) { g.Terms.AsOf.Revision-- }, ErrStale},
		{"stale epoch", func(g *KeyGrant) { g.Terms.AsOf = AsOf{Epoch: 1, Revision: 1000} }, ErrStale},
		{"short K", func(g *KeyGrant) { g.K = g.K[:31] }, errKeyMaterial},
		{"no K", func(g *KeyGrant) { g.K = nil }, errKeyMaterial},
		{"short enc", func(g *KeyGrant) { g.Enc = g.Enc[:EncLen-1] }, errKeyMaterial},
		{"long enc", func(g *KeyGrant) { g.Enc = append(g.Enc, 0) }, errKeyMaterial},
		{"enc of zeros", func(g *KeyGrant) { clear(g.Enc) }, errKeyMaterial}, // a low-order X25519 point
		{"SPI zero", func(g *KeyGrant) { g.B.SPI = 0 }, errKeyMaterial},
		{"order zero", func(g *KeyGrant) { g.Order = 0 }, errKeyMaterial},
		{"session zero", func(g *KeyGrant) { g.Session = SessionID{} }, errKeyMaterial},
		{"suite zero", func(g *KeyGrant) { g.Suite = 0 }, errKeyMaterial},
		{"unknown suite", func(g *KeyGrant) { g.Suite = 3 }, errKeyMaterial},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := exchange(t, Want{Flow: flowToB()}, nil)
			c.change(x.grant)
			k := x.grant.K
			keys, err := x.r.Grant(x.grant, seen)
			if !errors.Is(err, c.want) || keys != nil {
				t.Fatalf("got %v, %v; want %v", keys, err, c.want)
			}
			if bytes.Count(k, []byte{0}) != len(k) {
				t.Error("K was not cleared")
			}
		})
	}
}

func TestGrantRefusesAnotherName(t *testing.T) {
	for name, want := range map[string]Want{"name": {Peer: "c"}, "flow and name": {Flow: flowToB(), Peer: "c"}} {
		x := exchange(t, want, nil)
		if _, err := x.r.Grant(x.grant, AsOf{}); !errors.Is(err, errDestination) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The request said what a has seen; nothing older may come back, whatever the caller has noted since.
func TestGrantRefusesOlderThanRequest(t *testing.T) {
	x := exchange(t, Want{Peer: "b"}, nil)
	x.grant.Terms.AsOf = AsOf{Epoch: 2, Revision: 39}
	if _, err := x.r.Grant(x.grant, AsOf{}); !errors.Is(err, ErrStale) {
		t.Fatal(err)
	}
}

// Rule 2, at the responder.
func TestOfferRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*KeyOffer)
		want   error
	}{
		{"for another party", func(o *KeyOffer) { o.B = partyC }, errParty},
		{"B's key id", func(o *KeyOffer) { o.B.KeyID[0] ^= 1 }, errParty},
		{"B's boot", func(o *KeyOffer) { o.B.Boot[0] ^= 1 }, errParty},
		{"from ourselves", func(o *KeyOffer) { o.A.Name = "b" }, errParty},
		{"A and B swapped", func(o *KeyOffer) { o.A, o.B = o.B, o.A }, errParty},
		{"stale", func(o *KeyOffer) { o.Terms.AsOf = AsOf{Epoch: 2, Revision: 39} }, ErrStale},
		{"short K", func(o *KeyOffer) { o.K = o.K[1:] }, errKeyMaterial},
		{"short pub", func(o *KeyOffer) { o.Pub = o.Pub[1:] }, errKeyMaterial},
		{"long pub", func(o *KeyOffer) { o.Pub = append(o.Pub, 0) }, errKeyMaterial},
		{"pub of zeros", func(o *KeyOffer) { clear(o.Pub) }, errKeyMaterial},
		{"pub of ones", func(o *KeyOffer) { copy(o.Pub, bytes.Repeat([]byte{0xff}, PubLen)) }, errKeyMaterial},
		{"SPI zero", func(o *KeyOffer) { o.A.SPI = 0 }, errKeyMaterial},
		{"session zero", func(o *KeyOffer) { o.Session = SessionID{} }, errKeyMaterial},
		{"unknown suite", func(o *KeyOffer) { o.Suite = 99 }, errKeyMaterial},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := *exchange(t, Want{Peer: "b"}, nil).offer
			o.K = filled(32, 0x10)
			c.change(&o)
			k := o.K
			keys, accept, err := Respond(selfOf(partyB), &o, partyB.SPI, 7)
			if !errors.Is(err, c.want) || keys != nil || accept != nil {
				t.Fatalf("got %v, %v, %v; want %v", keys, accept, err, c.want)
			}
			if bytes.Count(k, []byte{0}) != len(k) {
				t.Error("K was not cleared")
			}
		})
	}
	for name, f := range map[string]struct {
		spi   packet.SPI
		order uint64
	}{"own SPI zero": {0, 7}, "own order zero": {5, 0}} {
		o := *exchange(t, Want{Peer: "b"}, nil).offer
		o.K = filled(32, 0x10)
		if _, _, err := Respond(selfOf(partyB), &o, f.spi, f.order); !errors.Is(err, errKeyMaterial) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Rule 2: B takes A's name from the offer, and answers in its own.
func TestAcceptNamesBothFromTheOffer(t *testing.T) {
	x := exchange(t, Want{Peer: "b"}, nil)
	if x.accept.A != "a" || x.accept.B != "b" || x.accept.Session != session(0x50) || x.accept.SPI != partyB.SPI {
		t.Errorf("%+v", x.accept)
	}
	if !reflect.DeepEqual(x.keysB.Peer, partyA) {
		t.Errorf("peer %+v", x.keysB.Peer)
	}
}

// Rule 6: a Requester serves one grant, good or bad, and a foreign na costs nothing; any other use of it is a fault.
func TestRequesterIsUsedOnce(t *testing.T) {
	again := func(x *attempt) *KeyGrant {
		g := *x.grant
		g.K = filled(32, 0x10)
		return &g
	}
	t.Run("after a grant", func(t *testing.T) {
		x := exchange(t, Want{Peer: "b"}, nil)
		second := again(x)
		if _, err := x.r.Grant(x.grant, AsOf{}); err != nil {
			t.Fatal(err)
		}
		wantPanic(t, func() { x.r.Grant(second, AsOf{}) })
		wantPanic(t, func() { x.r.Request() })
		x.r.Abandon() // does no harm
	})
	t.Run("after a bad grant", func(t *testing.T) {
		x := exchange(t, Want{Peer: "b"}, nil)
		second := again(x)
		x.grant.B = partyC
		if _, err := x.r.Grant(x.grant, AsOf{}); !errors.Is(err, errDestination) {
			t.Fatal(err)
		}
		wantPanic(t, func() { x.r.Grant(second, AsOf{}) })
	})
	t.Run("after being abandoned", func(t *testing.T) {
		x := exchange(t, Want{Peer: "b"}, nil)
		x.r.Abandon()
		wantPanic(t, func() { x.r.Grant(x.grant, AsOf{}) })
		if bytes.Count(x.grant.K, []byte{0}) != len(x.grant.K) {
			t.Error("K was not cleared")
		}
	})
	t.Run("not twice, nor before it is asked", func(t *testing.T) {
		x := exchange(t, Want{Peer: "b"}, nil)
		wantPanic(t, func() { x.r.Request() })
		r, err := NewRequester(selfOf(partyA), Want{Peer: "b"}, partyA.SPI)
		if err != nil {
			t.Fatal(err)
		}
		x.grant.Na = r.Na()
		wantPanic(t, func() { r.Grant(x.grant, AsOf{}) })
	})
	t.Run("not by a foreign na", func(t *testing.T) {
		x := exchange(t, Want{Peer: "b"}, nil)
		foreign := again(x)
		rand.Read(foreign.Na[:])
		if _, err := x.r.Grant(foreign, AsOf{}); !errors.Is(err, ErrNonce) {
			t.Fatal(err)
		}
		if _, err := x.r.Grant(x.grant, AsOf{}); err != nil {
			t.Fatal(err)
		}
	})
}

func wantPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("used out of turn without a word")
		}
	}()
	f()
}

// Rule 6: na and pub are fresh for each attempt; enc is for each offer.
func TestEphemeralsAreFresh(t *testing.T) {
	seen := map[string]bool{}
	for range 8 {
		x := exchange(t, Want{Peer: "b"}, nil)
		for what, v := range map[string][]byte{"na": x.req.Na[:], "pub": x.req.Pub, "enc": x.accept.Enc} {
			if seen[string(v)] {
				t.Fatalf("%s twice", what)
			}
			seen[string(v)] = true
		}
		for half, v := range map[string][]byte{"ML-KEM": x.req.Pub[:1184], "X25519": x.req.Pub[1184:]} {
			if seen[string(v)] {
				t.Fatalf("%s half of pub twice", half)
			}
			seen[string(v)] = true
		}
	}
}

func TestDestroy(t *testing.T) {
	x := exchange(t, Want{Peer: "b"}, nil)
	seal, open := x.keysB.Seal.Bytes(), x.keysB.Open.Bytes()
	x.keysB.Destroy()
	if zero := make([]byte, secret.Size); !bytes.Equal(seal, zero) || !bytes.Equal(open, zero) {
		t.Error("a destroyed key is still in memory")
	}
	if !x.keysB.Seal.IsZero() || !x.keysB.Open.IsZero() {
		t.Error("a destroyed key is still held")
	}
}

func TestDigestSelectors(t *testing.T) {
	ss := termsFixture().Selectors
	d := DigestSelectors(ss)
	if d == (Digest{}) || d != DigestSelectors(slices.Clone(ss)) {
		t.Error("the same selectors, another digest")
	}
	swapped := packet.Selectors{ss[1], ss[0]}
	if d == DigestSelectors(swapped) || d == DigestSelectors(ss[:1]) {
		t.Error("other selectors, the same digest")
	}
	if DigestSelectors(nil) != DigestSelectors(packet.Selectors{}) {
		t.Error("no selectors in two ways")
	}
}

func TestAsOfBefore(t *testing.T) {
	ordered := []AsOf{{}, {Revision: 1}, {Revision: 9}, {Epoch: 1}, {Epoch: 1, Revision: 1}, {Epoch: 2}}
	for i, a := range ordered {
		for j, b := range ordered {
			if a.Before(b) != (i < j) {
				t.Errorf("%s before %s: %t", a, b, a.Before(b))
			}
		}
	}
}
