package kdc

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
)

// tokenOf gives the token of an enrolment as a client reads it.
func tokenOf(t testing.TB, e Enrolment) control.Identity {
	t.Helper()
	token, err := control.ParseToken(e.Token)
	if err != nil {
		t.Fatal(err)
	}
	return control.Identity(token)
}

// redeem gives the identity that a token yields.
func (c *center) redeem(token control.Identity) (control.Identity, error) {
	nc, err := c.wire.dial("198.51.100.9")
	if err != nil {
		return control.Identity{}, err
	}
	return c.redeemOn(nc, token)
}

func (c *center) redeemOn(nc net.Conn, token control.Identity) (control.Identity, error) {
	conn, err := control.Connect(c.t.Context(), nc, token.KeyID, token.Key)
	if err != nil {
		return control.Identity{}, err
	}
	defer conn.Close()
	conn.Send(1, &control.Enrol{Software: "test"})
	e, err := conn.Receive()
	if err != nil {
		return control.Identity{}, err
	}
	g, ok := e.Message.(*control.EnrolGrant)
	if !ok {
		return control.Identity{}, errors.New("refused")
	}
	keyed := token
	keyed.Name, keyed.KeyID, keyed.KDCs = g.Name, g.KeyID, g.KDCs
	keyed.Key, err = keyFrom(g.Key)
	return keyed, err
}

func (c *center) addToken(name string) control.Identity {
	c.t.Helper()
	e, err := c.AddPeer(c.t.Context(), NewPeer{Name: name})
	if err != nil {
		c.t.Fatal(err)
	}
	return tokenOf(c.t, e)
}

func (c *center) stateOf(name string) PeerState {
	c.t.Helper()
	p, err := c.Peer(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return p.State
}

func TestEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		token := c.addToken("a")
		lost, err := c.redeem(token)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.stateOf("a"); got != StateToken {
			t.Errorf("after redemption the peer is %q: the key is not proven", got)
		}
		id, err := c.redeem(token) // the first answer was lost
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.dial(lost, "198.51.100.9"); err == nil {
			t.Error("a key that was replaced before use still opens")
		}
		c.join(id, "198.51.100.9")
		if got := c.stateOf("a"); got != StateEnrolled {
			t.Errorf("after Hello the peer is %q", got)
		}
		if _, err := c.redeem(token); err == nil {
			t.Error("the token lives on after the key is in use")
		}
		c.stop()
		if n := len(c.ledger.events(t, "enrol.again")); n != 1 {
			t.Errorf("%d second redemptions in the audit record, want 1", n)
		}
	})
}

// TestHandshakeAloneProvesNothing: a Noise message 1 could be a replay; only a transport message makes next current.
func TestHandshakeAloneProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		token := c.addToken("a")
		id, err := c.redeem(token)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := c.dial(id, "198.51.100.9")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := c.stateOf("a"); got != StateToken {
			t.Errorf("after the handshake the peer is %q", got)
		}
		conn.Send(1, &control.Ping{}) // any message will do, though this one is not welcome
		e, err := conn.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := e.Message.(*control.Refusal); !ok || r.Reason != control.Malformed {
			t.Errorf("a Ping before Hello is answered by %+v", e.Message)
		}
		if got := c.stateOf("a"); got != StateEnrolled {
			t.Errorf("after a verified message the peer is %q", got)
		}
		conn.Close()
	})
}

// TestConcurrentRedemptions: a hundred at once, of which some are refused as too many, yield one peer with one key.
func TestConcurrentRedemptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		token := c.addToken("a")
		var mu sync.Mutex
		var ids []control.Identity
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				nc, err := c.wire.dial(fmt.Sprintf("198.51.%d.1", i))
				if err != nil {
					t.Error(err)
					return
				}
				if id, err := c.redeemOn(nc, token); err == nil {
					mu.Lock()
					ids = append(ids, id)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(ids) < redeemBurst {
			t.Errorf("%d were redeemed, want %d at least", len(ids), redeemBurst)
		}
		ids = slices.DeleteFunc(ids, func(id control.Identity) bool { return !c.opens(id) })
		if len(ids) != 1 || len(c.Peers()) != 1 {
			t.Fatalf("%d of the keys open, %d peers; want 1 and 1", len(ids), len(c.Peers()))
		}
		c.join(ids[0], "198.51.100.9")
		if got := c.stateOf("a"); got != StateEnrolled {
			t.Errorf("the peer is %q", got)
		}
	})
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		e, err := c.AddPeer(t.Context(), NewPeer{Name: "a", TokenTTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Now().Add(time.Hour); e.Expires.Sub(want).Abs() > time.Second {
			t.Errorf("expires %s, want %s", e.Expires, want)
		}
		time.Sleep(time.Hour + time.Second)
		if _, err := c.redeem(tokenOf(t, e)); err == nil {
			t.Error("redeemed after it expired")
		}
		if got := c.stateOf("a"); got != StateExpired {
			t.Errorf("the peer is %q", got)
		}
		again, err := c.NewToken(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.redeem(tokenOf(t, again)); err != nil {
			t.Errorf("a new token: %v", err)
		}
	})
}

// TestNewTokenForEnrolledPeer: the key in use goes on until the new one is; then its connection ends too.
func TestNewTokenForEnrolledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		old := c.add(NewPeer{Name: "a"})
		before := c.join(old, "198.51.100.1")
		e, err := c.NewToken(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		dead, err := c.NewToken(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.redeem(tokenOf(t, e)); err == nil {
			t.Error("the older token lives on")
		}
		id, err := c.redeem(tokenOf(t, dead))
		if err != nil {
			t.Fatal(err)
		}
		before.send(3, &control.Ping{})
		await[*control.Pong](before)
		c.join(id, "198.51.100.1")
		<-before.ended
		if _, err := c.dial(old, "198.51.100.1"); err == nil {
			t.Error("the old key still opens")
		}
	})
}

func TestTokenIsForEnrolmentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		m := c.knock(c.addToken("a"), "198.51.100.1", &control.Hello{Boot: control.NewBoot()})
		if r, ok := m.next().(*control.Refusal); !ok || r.Refused != control.TypeHello {
			t.Error("Hello under a token was not refused")
		}
		<-m.ended
	})
}

// TestTokenDiesMeanwhile: a token that is replaced between the handshake and the Enrol yields nothing.
func TestTokenDiesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		conn, err := c.dial(c.addToken("a"), "198.51.100.9")
		check(t, err)
		defer conn.Close()
		synctest.Wait()
		if _, err := c.NewToken(t.Context(), "a", 0); err != nil {
			t.Fatal(err)
		}
		check(t, conn.Send(1, &control.Enrol{Software: "test"}))
		e, err := conn.Receive()
		check(t, err)
		if r, ok := e.Message.(*control.Refusal); !ok || r.Reason != control.Denied {
			t.Errorf("answered with %+v", e.Message)
		}
		if got := c.stateOf("a"); got != StateToken {
			t.Errorf("the peer is %s", got)
		}
	})
}

// TestNoSecretIsRecorded: neither the token nor any key stands in the audit record.
func TestNoSecretIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		e, err := c.AddPeer(t.Context(), NewPeer{Name: "a"})
		if err != nil {
			t.Fatal(err)
		}
		id, err := c.redeem(tokenOf(t, e))
		if err != nil {
			t.Fatal(err)
		}
		c.join(id, "198.51.100.1")
		c.stop()
		text := c.ledger.text.String()
		if !strings.Contains(text, `"enrol"`) {
			t.Fatal("the enrolment is not recorded")
		}
		for _, secret := range [][]byte{id.Key.Bytes(), tokenOf(t, e).Key.Bytes(), []byte(e.Token)} {
			for _, form := range encodings(secret) {
				if strings.Contains(text, form) {
					t.Error("a secret stands in the audit record")
				}
			}
		}
		entries, _, err := c.store.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			for _, form := range encodings(id.Key.Bytes()) {
				if strings.Contains(string(entry.Value), form) {
					t.Errorf("the key stands open in the store under %s", entry.Key)
				}
			}
		}
	})
}

func TestSuspendedIsNotEnrolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCenter(t)
		c.wall.set(0)
		token := c.addToken("a")
		id, err := c.redeem(token)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.SuspendPeer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.redeem(token); err == nil {
			t.Error("a token of a suspended peer was redeemed")
		}
		m := c.knock(id, "198.51.100.1", &control.Hello{Boot: control.NewBoot()})
		if r, ok := m.next().(*control.Refusal); !ok || r.Reason != control.Suspended {
			t.Error("Hello was not refused")
		}
		if got := c.snapshot.Load().peers["a"].record.Current; got != nil {
			t.Error("the key was put in use all the same")
		}
	})
}
