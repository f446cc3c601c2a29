package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// fakeKDC takes one token and welcomes under the permanent key that it gave for it.
type fakeKDC struct {
	address  string
	token    control.Token
	identity control.Identity
}

// serveKDC FILE serves a fake KDC until the script ends; its token is in FILE and $TOKEN, its address $KDC.
func serveKDC(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	k := &fakeKDC{
		address:  l.Addr().String(),
		token:    newToken(l.Addr().String()),
		identity: control.Identity{Name: "ana", KeyID: control.NewKeyID(), Key: secret.NewKey()},
	}
	ended := make(chan struct{})
	ts.Defer(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			k.answer(nc)
		}
	}()
	ts.Setenv("KDC", k.address)
	putToken(ts, args[0], k.token)
}

func (k *fakeKDC) lookup(id control.KeyID) (secret.Key, bool) {
	switch id {
	case k.token.KeyID:
		return k.token.Key, true
	case k.identity.KeyID:
		return k.identity.Key, true
	}
	return secret.Key{}, false
}

// answer takes one message: an Enrol under the token, or a Hello under the permanent key.
func (k *fakeKDC) answer(nc net.Conn) {
	c, id, first, err := control.Accept(nc, k.lookup)
	if err != nil {
		return
	}
	defer c.Close()
	var m control.Message = &control.Welcome{Config: control.Config{
		Name: "ana", Addresses: []netip.Addr{netip.MustParseAddr("100.80.0.2"), netip.MustParseAddr("fd00:80::2")},
	}}
	if id == k.token.KeyID {
		m = &control.EnrolGrant{
			Name: "ana", KeyID: k.identity.KeyID, Key: k.identity.Key.Bytes(), KDCs: []string{k.address},
		}
	}
	if c.Send(first.ID, m) == nil {
		c.Receive() // until the other side has read it and closes
	}
}

func newToken(kdc string) control.Token {
	return control.Token{Name: "ana", KeyID: control.NewKeyID(), Key: secret.NewKey(), KDCs: []string{kdc}}
}

// writeToken FILE ADDRESS makes a token for a KDC at that address, which has never heard of it.
func writeToken(ts *testscript.TestScript, neg bool, args []string) {
	putToken(ts, args[0], newToken(args[1]))
}

func putToken(ts *testscript.TestScript, file string, token control.Token) {
	text, err := token.Reveal()
	ts.Check(err)
	ts.Setenv("TOKEN", text)
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text+"\n"), 0o600))
}

// writeIdentity enrols $SSMNET_SSM_DIR by hand, at a KDC that is not there.
func writeIdentity(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.Getenv(dirEnv)
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(saveIdentity(filepath.Join(dir, identityName), control.Identity(newToken("127.0.0.1:1"))))
}
