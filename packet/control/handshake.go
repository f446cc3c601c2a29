package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/flynn/noise"

	"ssmnet/packet/secret"
)

// The preface and the two handshake messages, whose payload is empty (package doc, "Channel"):
//
//	-> magic(32) version(8) zero(24) key id(64) | ephemeral public key(256) tag(128)
//	<- ephemeral public key(256) tag(128)
const (
	prefaceLen   = 16
	prefaceMagic = 0x53534d4e // "SSMN"
	offVersion   = 4
	offKeyID     = 8
	handshakeLen = 32 + 16
)

var cipherSuite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)

func preface(id KeyID) []byte {
	b := make([]byte, prefaceLen)
	binary.BigEndian.PutUint32(b, prefaceMagic)
	b[offVersion] = Version
	copy(b[offKeyID:], id[:])
	return b
}

// parsePreface gives the key id, or ok = false for a preface of another protocol or version.
func parsePreface(b []byte) (id KeyID, ok bool) {
	copy(id[:], b[offKeyID:prefaceLen])
	return id, string(b[:offKeyID]) == string(preface(id)[:offKeyID])
}

func handshakeState(initiator bool, prologue []byte, key secret.Key) (*noise.HandshakeState, error) {
	return noise.NewHandshakeState(noise.Config{
		CipherSuite: cipherSuite, Pattern: noise.HandshakeNN, Initiator: initiator,
		Prologue: prologue, PresharedKey: key.Bytes(), PresharedKeyPlacement: 0,
	})
}

// Connect runs the client's side of the handshake on nc under the permanent key (or token key) named id. It borrows key
// until it returns and owns nc: on failure nc is closed. The connection's silence limit is DeadAfter.
func Connect(ctx context.Context, nc net.Conn, id KeyID, key secret.Key) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	nc.SetDeadline(time.Now().Add(HandshakeTimeout))
	c, err := initiate(nc, id, key)
	if err != nil {
		nc.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, context.DeadlineExceeded // whoever says nothing has not refused the key
		}
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

func initiate(nc net.Conn, id KeyID, key secret.Key) (c *Conn, err error) {
	secret.Do(func() {
		var hs *noise.HandshakeState
		p := preface(id)
		if hs, err = handshakeState(true, p, key); err != nil {
			return
		}
		var first []byte
		if first, _, _, err = hs.WriteMessage(p, nil); err != nil {
			return
		}
		if _, err = nc.Write(first); err != nil {
			err = fmt.Errorf("%w: %w", ErrHandshake, err)
			return
		}
		second := make([]byte, handshakeLen)
		if _, err = io.ReadFull(nc, second); err != nil {
			err = fmt.Errorf("%w: %w", ErrHandshake, err)
			return
		}
		var send, receive *noise.CipherState
		if _, send, receive, err = hs.ReadMessage(nil, second); err != nil {
			err = ErrHandshake
			return
		}
		c = newConn(nc, send, receive)
	})
	return c, err
}

// KeyLookup finds the key of an id; ok is false for an id that is not known. The handshake borrows the key without a
// lock: whoever may destroy it meanwhile gives a copy, or the handshake could run under a cleared key, all zero.
type KeyLookup func(KeyID) (key secret.Key, ok bool)

// Accept runs the KDC's side of the handshake and reads the first message, all within HandshakeTimeout. The caller may
// keep state for this connection only now: everything before could have been replayed (rule 1). It owns nc: on failure
// nc is closed without a word, so that an unknown key id and a wrong key look the same from outside.
func Accept(nc net.Conn, lookup KeyLookup) (c *Conn, id KeyID, first Envelope, err error) {
	nc.SetDeadline(time.Now().Add(HandshakeTimeout))
	if c, id, err = answer(nc, lookup); err != nil {
		nc.Close()
		return nil, id, Envelope{}, err
	}
	if first, err = c.receive(); err != nil {
		c.Close()
		return nil, id, Envelope{}, err
	}
	nc.SetDeadline(time.Time{})
	return c, id, first, nil
}

func answer(nc net.Conn, lookup KeyLookup) (c *Conn, id KeyID, err error) {
	var opening [prefaceLen + handshakeLen]byte
	if _, err = io.ReadFull(nc, opening[:]); err != nil {
		return nil, id, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	id, known := parsePreface(opening[:prefaceLen])
	var key secret.Key
	if known {
		key, known = lookup(id)
	}
	if !known {
		// Go on under a key that nobody has: the same work, the same silence, as for a wrong key.
		key = secret.NewKey()
	}
	do := secret.Do
	if !known {
		do = func(f func()) { f() } // nothing to erase: a forgery costs microseconds, not what erasing does
	}
	do(func() {
		var hs *noise.HandshakeState
		if hs, err = handshakeState(false, opening[:prefaceLen], key); err != nil {
			return
		}
		// Verifies the tag under the key before any Diffie-Hellman: a forgery costs microseconds.
		if _, _, _, err = hs.ReadMessage(nil, opening[prefaceLen:]); err != nil {
			err = ErrHandshake
			return
		}
		var second []byte
		var receive, send *noise.CipherState
		if second, receive, send, err = hs.WriteMessage(nil, nil); err != nil {
			return
		}
		if _, err = nc.Write(second); err != nil {
			err = fmt.Errorf("%w: %w", ErrHandshake, err)
			return
		}
		c = newConn(nc, send, receive)
	})
	return c, id, err
}
