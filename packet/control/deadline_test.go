package control

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/secret"
)

// Times, on a clock of the test's own.

func TestHandshakeDeadlines(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	for name, client := range map[string]func(*testing.T, net.Conn){
		"silent":           func(*testing.T, net.Conn) {},
		"half an opening":  func(t *testing.T, nc net.Conn) { nc.Write(make([]byte, 30)) },
		"nothing after it": func(t *testing.T, nc net.Conn) { newHandmade(t, nc, id, key, nil).finish(t) },
		"half a record": func(t *testing.T, nc net.Conn) {
			newHandmade(t, nc, id, key, nil).finish(t)
			nc.Write([]byte{0, 40, 1})
		},
		"answer left unread":  func(t *testing.T, nc net.Conn) { nc.Write(newHandmade(t, nc, id, key, nil).opening) },
		"a byte every second": trickle,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				nc, done := accepting(t, knows(id, key))
				client(t, nc)
				got := <-done
				if got.err == nil || got.c != nil {
					t.Fatal("accepted")
				}
				if took := got.at.Sub(start); took != HandshakeTimeout {
					t.Errorf("given up after %s, want %s", took, HandshakeTimeout)
				}
			})
		})
	}
	t.Run("silent KDC", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go io.Copy(io.Discard, far)
			start := time.Now()
			if _, err := Connect(t.Context(), near, id, key); err != context.DeadlineExceeded {
				t.Fatal(err)
			}
			if took := time.Since(start); took != HandshakeTimeout {
				t.Errorf("given up after %s", took)
			}
		})
	})
}

func trickle(_ *testing.T, nc net.Conn) {
	for range 64 {
		time.Sleep(time.Second)
		if _, err := nc.Write([]byte{0}); err != nil {
			return
		}
	}
}

func TestConnectIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go io.Copy(io.Discard, far)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Connect(ctx, near, NewKeyID(), secret.NewKey()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestSilenceEndsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t)
		go func() { // outlives the handshake's deadline, and the silence limit, by pinging
			for range 8 {
				time.Sleep(PingInterval)
				client.Send(0, &Ping{})
			}
		}()
		start := time.Now()
		for range 8 {
			if _, err := server.Receive(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := server.Receive(); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 8*PingInterval+DeadAfter {
			t.Errorf("taken for dead after %s", took)
		}
	})
}

func TestUnreadWriteEndsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := pair(t)
		start := time.Now()
		client.Send(0, &Ping{})
		<-client.Done()
		if took := time.Since(start); took != writeLimit || !errors.Is(client.Err(), errSlow) {
			t.Errorf("after %s: %v", took, client.Err())
		}
	})
}

func TestShutdownTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idle, _ := pair(t)
		start := time.Now()
		idle.Shutdown(time.Second)
		if took := time.Since(start); took != 0 {
			t.Errorf("with nothing to send: %s", took)
		}
		stuck, _ := pair(t)
		stuck.Send(0, &Ping{})
		stuck.Shutdown(time.Second)
		if took := time.Since(start); took != time.Second {
			t.Errorf("with a reader that does not read: %s", took)
		}
	})
}
