package control

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"reflect"
	"testing"

	"ssmnet/packet/secret"
)

// noiseKDC is the KDC's side of Noise_NNpsk0_25519_AESGCM_SHA256, from the Noise specification, revision 34.
type noiseKDC struct{ ck, h, k []byte }

func (n *noiseKDC) mixHash(b []byte) {
	s := sha256.Sum256(append(bytes.Clone(n.h), b...))
	n.h = s[:]
}

func (n *noiseKDC) derive(ikm []byte, outputs int) [][]byte {
	out, err := hkdf.Key(sha256.New, ikm, n.ck, "", 32*outputs)
	if err != nil {
		panic(err)
	}
	var keys [][]byte
	for ; len(out) > 0; out = out[32:] {
		keys = append(keys, out[:32])
	}
	return keys
}

func (n *noiseKDC) mixKey(ikm []byte) {
	keys := n.derive(ikm, 2)
	n.ck, n.k = keys[0], keys[1]
}

func gcm(key []byte, count uint64) (cipher.AEAD, []byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead, binary.BigEndian.AppendUint64(make([]byte, 4), count)
}

// answer takes the first handshake message and gives the second, with the keys of the two directions.
func (n *noiseKDC) answer(t *testing.T, prologue, psk, first []byte) (second, up, down []byte) {
	n.h = []byte("Noise_NNpsk0_25519_AESGCM_SHA256")
	n.ck = n.h
	n.mixHash(prologue)
	keys := n.derive(psk, 3)
	n.ck = keys[0]
	n.mixHash(keys[1])
	n.k = keys[2]
	n.mixHash(first[:32])
	n.mixKey(first[:32])
	aead, nonce := gcm(n.k, 0)
	if payload, err := aead.Open(nil, nonce, first[32:], n.h); err != nil || len(payload) != 0 {
		t.Errorf("first message: payload %x, %v", payload, err)
	}
	n.mixHash(first[32:])
	e, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Error(err)
	}
	theirs, err := ecdh.X25519().NewPublicKey(first[:32])
	if err != nil {
		t.Error(err)
	}
	dh, err := e.ECDH(theirs)
	if err != nil {
		t.Error(err)
	}
	n.mixHash(e.PublicKey().Bytes())
	n.mixKey(e.PublicKey().Bytes())
	n.mixKey(dh)
	aead, nonce = gcm(n.k, 0)
	second = aead.Seal(e.PublicKey().Bytes(), nonce, nil, n.h)
	keys = n.derive(nil, 2)
	return second, keys[0], keys[1]
}

// A client of ours talks to a KDC that was written from the specifications alone.
func TestSpecReadsChannel(t *testing.T) {
	key, id := secret.NewKey(), NewKeyID()
	near, far := net.Pipe()
	up := make(chan []byte, 3)
	go func() {
		defer close(up)
		opening := make([]byte, 64)
		io.ReadFull(far, opening)
		if want := append([]byte("SSMN\x01\x00\x00\x00"), id[:]...); !bytes.Equal(opening[:16], want) {
			t.Errorf("preface %x, want %x", opening[:16], want)
		}
		second, kup, kdown := new(noiseKDC).answer(t, opening[:16], key.Bytes(), opening[16:])
		far.Write(second)
		for count := range uint64(3) {
			length := make([]byte, 2)
			io.ReadFull(far, length)
			record := make([]byte, binary.BigEndian.Uint16(length))
			io.ReadFull(far, record)
			aead, nonce := gcm(kup, count)
			plain, err := aead.Open(nil, nonce, record, nil)
			if err != nil {
				t.Errorf("record %d: %v", count, err)
			}
			up <- plain
		}
		aead, nonce := gcm(kdown, 0)
		pong := aead.Seal(nil, nonce, []byte{0x83, 21, 5, 0xa2, 1, 0x82, 2, 3, 2, 0xf5}, nil)
		far.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(pong))), pong...))
	}()
	c, err := Connect(t.Context(), near, id, key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := everyMessage()
	for i, m := range []Message{sent[0], sent[4], &Ping{}} {
		if err := c.Send(uint64(i), m); err != nil {
			t.Fatal(err)
		}
		if got := <-up; !bytes.Equal(got, mustMarshal(t, uint64(i), m)) {
			t.Errorf("record %d reads %x", i, got)
		}
	}
	e, err := c.Receive()
	want := Envelope{ID: 5, Message: &Pong{AsOf: AsOf{Epoch: 2, Revision: 3}, Detached: true}}
	if err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("received %+v, %v", e.Message, err)
	}
}
