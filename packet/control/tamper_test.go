package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/flynn/noise"

	"ssmnet/packet/secret"
)

// What an attacker on the path can do to the channel: rule 1, and that all refusals look the same.

func TestTamperedOpening(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	for i := range prefaceLen + handshakeLen {
		nc, done := accepting(t, knows(id, key))
		h := newHandmade(t, nc, id, key, nil)
		h.opening[i] ^= 0x40
		writeAll(nc, h.opening)
		if err := dead(t, nc, done); err != ErrHandshake {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// A client under an unknown id, one with a wrong key, one of another protocol or version and a forger see the same, and
// so does a log.
func TestRefusalsAreUniform(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	edited := func(at int, bits byte) func(testing.TB, net.Conn) []byte {
		return func(t testing.TB, nc net.Conn) []byte {
			b := newHandmade(t, nc, id, key, nil).opening
			b[at] ^= bits
			return b
		}
	}
	for name, opening := range map[string]func(testing.TB, net.Conn) []byte{
		"unknown key id": func(t testing.TB, nc net.Conn) []byte { return newHandmade(t, nc, NewKeyID(), key, nil).opening },
		"wrong key": func(t testing.TB, nc net.Conn) []byte {
			return newHandmade(t, nc, id, secret.NewKey(), nil).opening
		},
		"another magic":   edited(0, 0x20),
		"another version": edited(offVersion, 3),
		"zero not zero":   edited(6, 1),
		"forged tag":      edited(prefaceLen+handshakeLen-1, 1),
		"all zero":        func(testing.TB, net.Conn) []byte { return make([]byte, prefaceLen+handshakeLen) },
		"HTTP": func(testing.TB, net.Conn) []byte {
			return []byte("GET / HTTP/1.1\r\nHost: kdc.example\r\nUser-Agent: a-browser/1.0\r\n\r\n-")[:64]
		},
	} {
		t.Run(name, func(t *testing.T) {
			nc, done := accepting(t, knows(id, key))
			writeAll(nc, opening(t, nc))
			if err := dead(t, nc, done); err != ErrHandshake {
				t.Errorf("%v, want exactly %v", err, ErrHandshake)
			}
		})
	}
}

func TestTruncatedOpening(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	for n := range prefaceLen + handshakeLen {
		near, far := net.Pipe()
		go func() {
			writeAll(near, newHandmade(t, near, id, key, nil).opening[:n])
			near.Close()
		}()
		if c, _, _, err := Accept(far, knows(id, key)); !errors.Is(err, ErrHandshake) || c != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Message 1 has no room for a payload: the KDC reads 48 bytes, and a longer message's tag is not there.
func TestNoPayloadInMessage1(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	hello, err := Marshal(Envelope{Message: &Hello{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range [][]byte{{1}, hello} {
		nc, done := accepting(t, knows(id, key))
		writeAll(nc, newHandmade(t, nc, id, key, payload).opening[:prefaceLen+handshakeLen])
		if err := dead(t, nc, done); err != ErrHandshake {
			t.Errorf("payload of %d bytes: %v", len(payload), err)
		}
	}
}

func TestTamperedAnswer(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	answer := func(t *testing.T, change func([]byte) []byte) error {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			opening := make([]byte, prefaceLen+handshakeLen)
			io.ReadFull(far, opening)
			hs, err := handshakeState(false, opening[:prefaceLen], key)
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, _, err := hs.ReadMessage(nil, opening[prefaceLen:]); err != nil {
				t.Error(err)
			}
			second, _, _, err := hs.WriteMessage(nil, nil)
			if err != nil {
				t.Error(err)
			}
			writeAll(far, change(second))
		}()
		c, err := Connect(t.Context(), near, id, key)
		if c != nil {
			c.Close()
		}
		return err
	}
	if err := answer(t, func(b []byte) []byte { return b }); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	for i := range handshakeLen {
		if err := answer(t, func(b []byte) []byte { b[i] ^= 2; return b }); !errors.Is(err, ErrHandshake) {
			t.Errorf("byte %d: %v", i, err)
		}
		if err := answer(t, func(b []byte) []byte { return b[:i] }); !errors.Is(err, ErrHandshake) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// Rule 1: who replays an opening gets the KDC's second message, and never a connection, whatever it sends next.
func TestReplayedOpeningIsNotAccepted(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	nc, done := accepting(t, knows(id, key))
	victim := newHandmade(t, nc, id, key, nil)
	victim.finish(t)
	first := victim.record(t, &Hello{})
	writeAll(nc, first)
	honest := <-done
	if honest.err != nil {
		t.Fatal(honest.err)
	}
	defer honest.c.Close()
	for name, then := range map[string][]byte{
		"its first record": first, "nothing": nil, "no record": {0, 0}, "the opening": victim.opening,
		"a short record": append([]byte{0, 16}, make([]byte, 16)...),
		"a long record":  append([]byte{255, 255}, make([]byte, 65535)...),
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			go func() {
				writeAll(near, victim.opening)
				io.ReadFull(near, make([]byte, handshakeLen))
				writeAll(near, then)
				near.Close()
			}()
			if c, _, first, err := Accept(far, knows(id, key)); err == nil || c != nil || first.Message != nil {
				t.Fatalf("accepted a replay: %+v", first)
			}
		})
	}
}

func TestTamperedRecord(t *testing.T) {
	plain, err := Marshal(Envelope{Message: &Hello{}})
	if err != nil {
		t.Fatal(err)
	}
	n := lengthLen + len(plain) + 16
	for i := range n {
		h, server := connected(t)
		r := h.record(t, &Hello{})
		if len(r) != n {
			t.Fatalf("record of %d bytes, want %d", len(r), n)
		}
		r[i] ^= 1
		go func() { writeAll(h.nc, r); h.nc.Close() }()
		if _, err := server.Receive(); !errors.Is(err, ErrMalformed) && !(i < lengthLen && errors.Is(err, ErrClosed)) {
			t.Errorf("byte %d: %v", i, err)
		}
		if server.Err() == nil {
			t.Errorf("byte %d: the connection lives on", i)
		}
	}
	for i := range n {
		h, server := connected(t)
		r := h.record(t, &Hello{})
		go func() { writeAll(h.nc, r[:i]); h.nc.Close() }()
		if _, err := server.Receive(); !errors.Is(err, ErrClosed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// Within a channel no record is taken twice or out of turn; none passes from one channel or direction to another.
func TestRecordsAreCounted(t *testing.T) {
	for name, feed := range map[string]func(*testing.T, *handmade, *Conn) []byte{
		"twice": func(t *testing.T, h *handmade, _ *Conn) []byte {
			r := h.record(t, &Ping{})
			return append(r, r...)
		},
		"swapped": func(t *testing.T, h *handmade, _ *Conn) []byte {
			one, two := h.record(t, &Ping{}), h.record(t, &Ping{})
			return append(two, one...)
		},
		"one left out": func(t *testing.T, h *handmade, _ *Conn) []byte {
			h.record(t, &Ping{})
			return h.record(t, &Ping{})
		},
		"from another channel": func(t *testing.T, _ *handmade, _ *Conn) []byte {
			other, _ := connected(t)
			return other.record(t, &Ping{})
		},
		"reflected": func(t *testing.T, h *handmade, server *Conn) []byte {
			server.Send(0, &Ping{})
			r := make([]byte, lengthLen)
			io.ReadFull(h.nc, r)
			r = append(r, make([]byte, binary.BigEndian.Uint16(r))...)
			io.ReadFull(h.nc, r[lengthLen:])
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, server := connected(t)
			b := feed(t, h, server)
			go func() { writeAll(h.nc, b); h.nc.Close() }()
			var err error
			for n := 0; err == nil; n++ {
				if n > 1 {
					t.Fatal("took more than one of the records")
				}
				_, err = server.Receive()
			}
			if !errors.Is(err, ErrMalformed) {
				t.Error(err)
			}
		})
	}
}

// A record whose seal is right and whose content is not ends the connection likewise.
func TestRecordLengthsAndContents(t *testing.T) {
	for name, r := range map[string]func(*testing.T, *handmade) []byte{
		"length 0":       func(*testing.T, *handmade) []byte { return []byte{0, 0} },
		"length 15":      func(*testing.T, *handmade) []byte { return append([]byte{0, 15}, make([]byte, 15)...) },
		"longest":        func(*testing.T, *handmade) []byte { return append([]byte{255, 255}, make([]byte, 65535)...) },
		"empty":          func(t *testing.T, h *handmade) []byte { return h.sealed(t, nil) },
		"not CBOR":       func(t *testing.T, h *handmade) []byte { return h.sealed(t, []byte("hello")) },
		"malformed body": func(t *testing.T, h *handmade) []byte { return h.sealed(t, []byte{0x83, 5, 0, 0xa0}) },
	} {
		t.Run(name, func(t *testing.T) {
			h, server := connected(t)
			b := r(t, h)
			go writeAll(h.nc, b)
			if _, err := server.Receive(); !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			<-server.Done()
		})
	}
}

// counting counts what a handshake costs.
type counting struct {
	noise.DHFunc
	keys, dh int
}

func (c *counting) GenerateKeypair(r io.Reader) (noise.DHKey, error) {
	c.keys++
	return c.DHFunc.GenerateKeypair(r)
}

func (c *counting) DH(private, public []byte) ([]byte, error) {
	c.dh++
	return c.DHFunc.DH(private, public)
}

// A forged, misdirected or malformed opening costs the KDC no Diffie-Hellman; an honest one costs one.
func TestForgeryCostsNoDiffieHellman(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	for name, f := range map[string]struct {
		as      KeyID
		with    secret.Key
		wantDHs int
	}{
		"honest":         {id, key, 1},
		"wrong key":      {id, secret.NewKey(), 0},
		"unknown key id": {NewKeyID(), key, 0},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			opening := newHandmade(t, near, f.as, f.with, nil).opening
			count := &counting{DHFunc: noise.DH25519}
			old := cipherSuite
			cipherSuite = noise.NewCipherSuite(count, noise.CipherAESGCM, noise.HashSHA256)
			defer func() { cipherSuite = old }()
			go func() {
				writeAll(near, opening)
				io.Copy(io.Discard, io.LimitReader(near, handshakeLen))
				near.Close()
			}()
			if _, _, _, err := Accept(far, knows(id, key)); err == nil {
				t.Fatal("accepted without a transport message")
			}
			if count.dh != f.wantDHs || count.keys != f.wantDHs {
				t.Errorf("%d Diffie-Hellmans and %d key pairs, want %d", count.dh, count.keys, f.wantDHs)
			}
		})
	}
}

func BenchmarkForgedOpening(b *testing.B) {
	key, id := secret.NewKey(), NewKeyID()
	near, far := net.Pipe()
	defer far.Close()
	opening := newHandmade(b, near, id, secret.NewKey(), nil).opening
	s := &stub{Conn: near}
	b.ReportAllocs()
	for b.Loop() {
		s.in.Reset(opening)
		if _, _, err := answer(s, knows(id, key)); err == nil {
			b.Fatal("accepted")
		}
	}
}

func FuzzParsePreface(f *testing.F) {
	f.Add(preface(KeyID{1, 2, 3, 4, 5, 6, 7, 8}))
	f.Add(make([]byte, prefaceLen))
	f.Add([]byte("SSMN\x02\x00\x00\x00abcdefgh"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < prefaceLen {
			return // Accept reads whole prefaces
		}
		if id, ok := parsePreface(b); ok != bytes.Equal(preface(id), b[:prefaceLen]) {
			t.Errorf("%x: key id %s, %t", b, id, ok)
		}
	})
}
