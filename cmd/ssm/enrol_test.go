package main

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rogpeppe/go-internal/testscript"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// fakeKDC takes one token and welcomes under the permanent key that it gave for it.
type fakeKDC struct {
	address  string
	token    control.Token
	identity control.Identity
	forgets  bool // the permanent key
	hangsUp  bool // on a Hello
	granted  int  // identities
}

// listenKDC serves a fake KDC until it is ended.
func listenKDC(set func(*fakeKDC)) (k *fakeKDC, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	k = &fakeKDC{
		address:  l.Addr().String(),
		token:    newToken(l.Addr().String()),
		identity: control.Identity{Name: "ana", KeyID: control.NewKeyID(), Key: secret.NewKey()},
	}
	set(k)
	ended := make(chan struct{})
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
	return k, func() { l.Close(); <-ended }, nil
}

// serveKDC FILE [forgets|hangs-up] serves a fake KDC until the script ends; its token is in FILE and $TOKEN, its address
// $KDC.
func serveKDC(ts *testscript.TestScript, neg bool, args []string) {
	k, end, err := listenKDC(func(k *fakeKDC) {
		k.forgets, k.hangsUp = slices.Contains(args, "forgets"), slices.Contains(args, "hangs-up")
	})
	ts.Check(err)
	ts.Defer(end)
	ts.Setenv("KDC", k.address)
	putToken(ts, args[0], k.token)
}

func (k *fakeKDC) lookup(id control.KeyID) (secret.Key, bool) {
	switch id {
	case k.token.KeyID:
		return k.token.Key, true
	case k.identity.KeyID:
		return k.identity.Key, !k.forgets
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
	if id != k.token.KeyID && k.hangsUp {
		return
	}
	if id == k.token.KeyID {
		k.granted++
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

// TestEnrolAtOnce: of many that enrol the same new directory, one does, and the KDC is asked for one identity: each
// further one would make those before it worthless.
func TestEnrolAtOnce(t *testing.T) {
	k, end, err := listenKDC(func(*fakeKDC) {})
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.token.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "below", "ssm")
	var codes [8]int
	var group sync.WaitGroup
	for i := range codes {
		group.Go(func() {
			var out, errs strings.Builder
			codes[i] = cli.Run(program(), []string{"ssm", "--dir", dir, "enrol", "-"}, strings.NewReader(text), &out, &errs)
		})
	}
	group.Wait()
	end()
	slices.Sort(codes[:])
	c := cli.Conflict
	if want := [...]int{cli.Done, c, c, c, c, c, c, c}; codes != want || k.granted != 1 {
		t.Errorf("exit codes %v, want %v; %d identities given", codes, want, k.granted)
	}
	id, err := readIdentity(filepath.Join(dir, identityName))
	if err != nil || id.KeyID != k.identity.KeyID {
		t.Errorf("identity of key %v, %v", id.KeyID, err)
	}
}

// TestEnrolWhileAnotherFails: the directory that a refused enrolment made goes, but not from under one that waits.
func TestEnrolWhileAnotherFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "below", "ssm")
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		release, err := claim(dir)
		if err == nil {
			_, err = os.Stat(dir)
			release()
		}
		waiting <- err
	}()
	release()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestEnrolLockedOut: a directory that somebody keeps locked is waited for, and then given up.
func TestEnrolLockedOut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		unlock, err := daemon.LockDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		if _, err := claim(dir); cli.Code(err) != cli.Conflict || !strings.HasPrefix(err.Error(), "another 'ssm enrol' is at work: ") {
			t.Errorf("%v (exit %d)", err, cli.Code(err))
		}
	})
}

// writeIdentity enrols $SSMNET_SSM_DIR by hand, at a KDC that is not there.
func writeIdentity(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.Getenv(dirEnv)
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(saveIdentity(filepath.Join(dir, identityName), control.Identity(newToken("127.0.0.1:1"))))
}
