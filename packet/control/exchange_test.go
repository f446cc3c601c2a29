package control

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

func TestChannel(t *testing.T) {
	a, b := net.Pipe()
	key, id := secret.NewKey(), NewKeyID()
	type accepted struct {
		c     *Conn
		first Envelope
		err   error
	}
	done := make(chan accepted)
	go func() {
		c, got, first, err := Accept(b, func(want KeyID) (secret.Key, bool) { return key, want == id })
		if err == nil && got != id {
			t.Errorf("key id %s, want %s", got, id)
		}
		done <- accepted{c, first, err}
	}()
	client, err := Connect(context.Background(), a, id, key)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	hello := &Hello{Boot: NewBoot(), Reach: Reach{Port: 7601, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
	if err := client.Send(0, hello); err != nil {
		t.Fatal(err)
	}
	server := <-done
	if server.err != nil {
		t.Fatal(server.err)
	}
	defer server.c.Close()
	if got := server.first.Message.(*Hello); got.Boot != hello.Boot || got.Reach.Port != 7601 || got.Reach.Addresses[0] != hello.Reach.Addresses[0] {
		t.Errorf("received %+v", got)
	}
}

func TestExchangeAgrees(t *testing.T) {
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	selfA := Self{Name: "a", KeyID: NewKeyID(), Boot: NewBoot()}
	selfB := Self{Name: "b", KeyID: NewKeyID(), Boot: NewBoot()}
	flow := packet.Flow{Protocol: packet.ICMP, Class: packet.Complete, Src: netip.MustParseAddr("100.80.0.1"), Dst: netip.MustParseAddr("100.80.0.2")}
	r, err := NewRequester(selfA, Want{Flow: &flow}, 17)
	if err != nil {
		t.Fatal(err)
	}
	req := r.Request()
	k := secret.NewKey()
	terms := Terms{Selectors: packet.Selectors{{Src: prefix("100.80.0.1/32")[0], Dst: prefix("100.80.0.2/32")[0]}}, AsOf: AsOf{Epoch: 1, Revision: 2}}
	offer := &KeyOffer{
		Session: NewSessionID(),
		A:       Party{Name: "a", KeyID: selfA.KeyID, Boot: selfA.Boot, Prefixes: prefix("100.80.0.1/32"), SPI: req.SPI},
		B:       Party{Name: "b", KeyID: selfB.KeyID, Boot: selfB.Boot, Prefixes: prefix("100.80.0.2/32")},
		Na:      req.Na, K: bytes.Clone(k.Bytes()), Pub: req.Pub, Suite: packet.AES256GCM, Terms: terms,
	}
	kb, accept, err := Respond(selfB, offer, 18, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := offer.B
	b.SPI = accept.SPI
	grant := &KeyGrant{Session: offer.Session, A: offer.A, B: b, Na: req.Na, K: bytes.Clone(k.Bytes()), Enc: accept.Enc, Suite: offer.Suite, Order: accept.Order, Terms: terms}
	// What crosses the wire decodes to the same.
	plain, err := Marshal(Envelope{ID: 3, Message: grant})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Unmarshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	ka, err := r.Grant(e.Message.(*KeyGrant), AsOf{})
	if err != nil {
		t.Fatal(err)
	}
	if !ka.Seal.Equal(kb.Open) || !ka.Open.Equal(kb.Seal) || ka.Seal.Equal(ka.Open) {
		t.Error("the two sides' keys do not correspond")
	}
}
