package kdc

import (
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
)

// TestKeyDiesInHandshake: a connection that was opened under a key says Hello when that key is dead: it is not let in.
func TestKeyDiesInHandshake(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		old := a.id
		conn, err := c.dial(old, "198.51.100.9")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c.rotate("a")
		b := c.rejoin(a, a.delivered())
		if err := conn.Send(1, &control.Hello{Boot: control.NewBoot()}); err != nil {
			t.Fatal(err)
		}
		e, err := conn.Receive()
		if r, ok := e.Message.(*control.Refusal); !ok || r.Reason != control.Suspended {
			t.Errorf("answered %+v, %v", e.Message, err)
		}
		b.send(2, &control.Ping{})
		await[*control.Pong](b) // and the run that has the new key stays
	})
}

// TestDeadKeyGetsNoNext: what remains connected under a key that has died is not sent the next one.
func TestDeadKeyGetsNoNext(t *testing.T) {
	rotating(t, func(t *testing.T, c *center, a *module) {
		c.rotate("a")
		conn, err := c.dial(a.delivered(), "198.51.100.1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Send(1, &control.Ping{}) // the key is in use, and no other connection is there yet
		synctest.Wait()
		c.rotate("a")
		for _, m := range a.drained() {
			if _, next := m.(*control.RotateKey); next {
				t.Error("it is")
			}
		}
	})
}
