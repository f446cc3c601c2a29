package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/flynn/noise"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// Fuzz targets run in processes of their own, which start from the same seeds: keys and ids in them are fixed.

func fixedKey(t testing.TB) secret.Key {
	t.Helper()
	key, err := secret.KeyFrom(filled(secret.Size, 0x40))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var fixedID = KeyID(filled(8, 0x60))

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// What decoding may allocate, in bytes: so much for each byte of a message, for the shortest element of a list is one
// byte and becomes a session of a report, and so much besides.
const (
	perByte    = 512
	perMessage = 64 << 10
)

// FuzzEachMessage decodes any body as a message of any type that there is. What decodes has one encoding, from which the
// same comes again, and memory is taken in proportion to what came.
func FuzzEachMessage(f *testing.F) {
	var types []Type
	for n := range 256 {
		if newMessage(Type(n)) != nil {
			types = append(types, Type(n))
		}
	}
	for _, m := range everyMessage() {
		body, err := encode(m, usualMessage)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(bytes.IndexByte(asBytes(types), byte(m.Type()))), uint64(9), body)
	}
	for i := range types {
		f.Add(byte(i), uint64(0), []byte{0xa0})
	}
	f.Fuzz(func(t *testing.T, which byte, id uint64, body []byte) {
		typ := types[int(which)%len(types)]
		b := append([]byte{0x83}, cborUint(uint64(typ))...)
		b = append(append(b, cborUint(id)...), body...)
		var e Envelope
		var err error
		if n := allocated(func() { e, err = Unmarshal(b) }); n > uint64(perMessage+perByte*len(b)) {
			t.Fatalf("%d bytes allocated for %d", n, len(b))
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) || e.Message != nil {
				t.Fatalf("%v with %+v", err, e.Message)
			}
			return
		}
		if e.ID != id || e.Message.Type() != typ {
			t.Fatalf("type %d, id %d became %d, %d", typ, id, e.Message.Type(), e.ID)
		}
		again := mustMarshal(t, id, e.Message)
		second, err := Unmarshal(again)
		if err != nil {
			t.Fatalf("%x does not decode: %v", again, err)
		}
		if third := mustMarshal(t, id, second.Message); !bytes.Equal(again, third) {
			t.Fatalf("%x and %x", again, third)
		}
	})
}

func asBytes(types []Type) (b []byte) {
	for _, t := range types {
		b = append(b, byte(t))
	}
	return b
}

// cborUint is the shortest encoding of a number (RFC 8949, section 3).
func cborUint(n uint64) []byte {
	switch {
	case n < 24:
		return []byte{byte(n)}
	case n < 1<<8:
		return []byte{0x18, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{0x19}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{0x1a}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{0x1b}, n)
}

// FuzzTranscript: what one side was told and the other was not changes the transcript: its encoding says all of it.
func FuzzTranscript(f *testing.F) {
	for _, tr := range scheduleCases() {
		b, err := encode(tr, usualMessage)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr, second transcript
		if decoding.Unmarshal(b, &tr) != nil {
			return
		}
		again, err := encode(&tr, usualMessage)
		if err != nil {
			return // a prefix that is none: checked before it comes here
		}
		if err := decoding.Unmarshal(again, &second); err != nil {
			t.Fatalf("%x does not decode: %v", again, err)
		}
		one, err1 := tr.hash()
		two, err2 := second.hash()
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Fatalf("%x: %x, %v and %x, %v", b, one, err1, two, err2)
		}
	})
}

// FuzzGrant gives a requester any message in place of the grant: it has keys only for what it asked for, towards a peer
// that has the destination.
func FuzzGrant(f *testing.F) {
	x := exchange(f, Want{Flow: flowToB()}, nil)
	private, pub, na := x.r.private, x.r.pub, x.r.na
	f.Add(mustMarshal(f, 9, x.grant))
	other := *x.grant
	other.B = partyC
	f.Add(mustMarshal(f, 9, &other))
	for _, m := range everyMessage() {
		f.Add(mustMarshal(f, 9, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Unmarshal(b)
		if err != nil {
			return
		}
		g, ok := e.Message.(*KeyGrant)
		if !ok {
			return
		}
		g.Na = na // else nothing comes further
		r := &Requester{
			self: selfOf(partyA), want: Want{Flow: flowToB()}, spi: partyA.SPI, na: na, pub: pub, private: private, turn: asked,
		}
		keys, err := r.Grant(g, r.self.AsOf)
		if err != nil {
			if keys != nil {
				t.Fatalf("keys with %v", err)
			}
			return
		}
		if !r.self.is(keys.Self) || !packet.Covers(keys.Peer.Prefixes, flowToB().Dst) || keys.Terms.AsOf.Before(r.self.AsOf) ||
			keys.Peer.SPI == 0 || keys.Seal.Equal(keys.Open) {
			t.Fatalf("keys from %+v", g)
		}
	})
}

// FuzzOffer gives a responder any message in place of the offer: it accepts only what is addressed to it.
func FuzzOffer(f *testing.F) {
	for _, m := range everyMessage() {
		f.Add(mustMarshal(f, 9, m))
	}
	x := exchange(f, Want{Peer: "b"}, nil)
	f.Add(mustMarshal(f, 9, x.offer))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Unmarshal(b)
		if err != nil {
			return
		}
		o, ok := e.Message.(*KeyOffer)
		if !ok {
			return
		}
		self := selfOf(partyB)
		keys, accept, err := Respond(self, o, 5, 1)
		if err != nil {
			if keys != nil || accept != nil {
				t.Fatalf("keys with %v", err)
			}
			return
		}
		if !self.is(keys.Self) || keys.Peer.Name == self.Name || keys.Terms.AsOf.Before(self.AsOf) ||
			accept.Session != keys.Session || accept.B != self.Name || len(accept.Enc) != EncLen {
			t.Fatalf("%+v from %+v", accept, o)
		}
	})
}

// FuzzTokenBody is FuzzParseToken behind the checksum, which no mutation gets past.
func FuzzTokenBody(f *testing.F) {
	seedFiles(f, "testdata/token/*.txt", func(b []byte) {
		text := bytes.TrimPrefix(bytes.TrimSpace(b), []byte(tokenPrefix))
		if body, err := base64.RawURLEncoding.AppendDecode(nil, text); err == nil && len(body) > checksumLen {
			f.Add(body[:len(body)-checksumLen])
		}
	})
	f.Add([]byte{0x84, 0x60, 0x40, 0x40, 0x80})
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		whole := append(bytes.Clone(body), sum[:checksumLen]...)
		token, err := ParseToken(tokenPrefix + base64.RawURLEncoding.EncodeToString(whole))
		if err != nil {
			if err != errToken {
				t.Errorf("%v", err)
			}
			return
		}
		text, err := token.Reveal()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := ParseToken(text); err != nil || !same(Identity(token), Identity(second)) {
			t.Errorf("%s: %v", text, err)
		}
	})
}

// FuzzAccept: whatever arrives, a client without the key is not accepted, nor one that stops behind an honest opening,
// one that was recorded or has a byte changed.
func FuzzAccept(f *testing.F) {
	key := fixedKey(f)
	near, far := net.Pipe()
	defer far.Close()
	opening := newHandmade(f, near, fixedID, key, nil).opening
	f.Add([]byte(nil))
	f.Add(preface(fixedID))
	f.Add(append(preface(fixedID), make([]byte, handshakeLen)...))
	f.Add(append(preface(NewKeyID()), make([]byte, 200)...))
	f.Add(opening)
	f.Add(append(bytes.Clone(opening), 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16))
	f.Add(append(bytes.Clone(opening), 0xff, 0xff, 1))
	f.Add([]byte(fmt.Sprintf("GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s", uint64(1)<<60, make([]byte, 64))))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stub{Conn: near, deaf: true}
		s.in.Reset(b)
		if c, _, _, err := Accept(s, knows(fixedID, key)); err == nil || c != nil {
			t.Fatalf("accepted %x", b)
		}
	})
}

// FuzzConnect: whatever answers, what does not have the key is no KDC.
func FuzzConnect(f *testing.F) {
	key := fixedKey(f)
	near, far := net.Pipe()
	defer far.Close()
	opening := newHandmade(f, near, fixedID, key, nil).opening
	f.Add([]byte(nil))
	f.Add(make([]byte, handshakeLen))
	f.Add(opening[prefaceLen:]) // what a client sent, sent back
	f.Add(opening)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stub{Conn: near, deaf: true}
		s.in.Reset(b)
		if c, err := Connect(context.Background(), s, fixedID, key); !errors.Is(err, ErrHandshake) || c != nil {
			t.Fatalf("connected to %x: %v", b, err)
		}
	})
}

// FuzzRecords: of a record with a byte changed nothing is taken, nor of anything behind it; of one that is as it was
// sealed, what a message can be.
func FuzzRecords(f *testing.F) {
	for _, m := range everyMessage() {
		plain := mustMarshal(f, 9, m)
		f.Add(plain, uint16(0), byte(0), []byte(nil))
		f.Add(plain, uint16(len(plain)/2), byte(1), []byte{0, 0})
	}
	f.Add([]byte{}, uint16(1), byte(0xff), []byte{0xff, 0xff})
	f.Add([]byte("hello"), uint16(0), byte(0x80), make([]byte, 300))
	near, far := net.Pipe()
	defer far.Close()
	f.Fuzz(func(t *testing.T, plain []byte, at uint16, change byte, behind []byte) {
		if len(plain) > maxMessage {
			return
		}
		want, wantErr := Unmarshal(plain)
		h := &handmade{send: noise.UnsafeNewCipherState(cipherSuite, [32]byte{1}, 0)}
		record := h.sealed(t, plain)
		record[int(at)%len(record)] ^= change
		s := &stub{Conn: near, deaf: true}
		s.in.Reset(append(record, behind...))
		var c *Conn
		defer func() { c.Close() }()
		var e Envelope
		var err error
		size := allocated(func() {
			c = newConn(s, noise.UnsafeNewCipherState(cipherSuite, [32]byte{2}, 0),
				noise.UnsafeNewCipherState(cipherSuite, [32]byte{1}, 0))
			e, err = c.Receive()
		})
		if limit := maxRecord + perMessage + perByte*len(plain); size > uint64(limit) {
			t.Fatalf("%d bytes allocated for %d", size, len(plain))
		}
		switch {
		case change != 0 && err == nil, change == 0 && (err == nil) != (wantErr == nil):
			t.Fatalf("%x with %02x at %d: %+v, %v", plain, change, at, e, err)
		case err == nil && !bytes.Equal(mustMarshal(t, e.ID, e.Message), mustMarshal(t, want.ID, want.Message)):
			t.Fatalf("%x: %+v", plain, e.Message)
		case err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrClosed):
			t.Fatal(err)
		}
		if _, err := c.Receive(); err == nil {
			t.Fatalf("took %x", behind)
		}
	})
}

// stub is a network connection that has one thing to say. A deaf one takes what is said to it.
type stub struct {
	net.Conn
	in   bytes.Reader
	deaf bool
}

func (s *stub) Read(b []byte) (int, error) { return s.in.Read(b) }

func (s *stub) Write(b []byte) (int, error) {
	if s.deaf {
		return len(b), nil
	}
	return 0, io.ErrClosedPipe
}

func (s *stub) Close() error { return nil } // of the pipe behind it there is one for all
