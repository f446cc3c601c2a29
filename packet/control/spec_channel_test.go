package control_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// The channel: Noise_NNpsk0_25519_AESGCM_SHA256 (Noise, revision 34, sections 5, 7 and 9) behind the preface, and records.

// specNoise is a handshake of either side. Its functions panic with an error.
type specNoise struct {
	ck, h []byte
	aead  cipher.AEAD
}

func specMust[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func specGCM(key []byte) cipher.AEAD { return specMust(cipher.NewGCM(specMust(aes.NewCipher(key)))) }

func specNonce(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4), n) }

// specStart is the state once psk0 has been mixed in, which comes before everything.
func specStart(preface, psk []byte) *specNoise {
	s := &specNoise{h: []byte("Noise_NNpsk0_25519_AESGCM_SHA256")}
	s.ck = s.h
	s.mixHash(preface)
	keys := s.derive(psk, 3)
	s.ck, s.aead = keys[0], specGCM(keys[2])
	s.mixHash(keys[1])
	return s
}

func (s *specNoise) mixHash(b []byte) {
	h := sha256.Sum256(append(append([]byte{}, s.h...), b...))
	s.h = h[:]
}

func (s *specNoise) derive(ikm []byte, outputs int) (keys [][]byte) {
	for out := specMust(hkdf.Key(sha256.New, ikm, s.ck, "", 32*outputs)); len(out) > 0; out = out[32:] {
		keys = append(keys, out[:32])
	}
	return keys
}

func (s *specNoise) mixKey(ikm []byte) {
	keys := s.derive(ikm, 2)
	s.ck, s.aead = keys[0], specGCM(keys[1])
}

// ephemeral is the token e, of either side: in a handshake with a PSK it is mixed into the key too.
func (s *specNoise) ephemeral(public []byte) {
	s.mixHash(public)
	s.mixKey(public)
}

// seal and open are an empty payload, the only one under its key.
func (s *specNoise) seal() []byte {
	tag := s.aead.Seal(nil, specNonce(0), nil, s.h)
	s.mixHash(tag)
	return tag
}

func (s *specNoise) open(tag []byte) {
	specMust(s.aead.Open(nil, specNonce(0), tag, s.h))
	s.mixHash(tag)
}

func (s *specNoise) exchange(own *ecdh.PrivateKey, theirs []byte) {
	s.mixKey(specMust(own.ECDH(specMust(ecdh.X25519().NewPublicKey(theirs)))))
}

// specConn is the channel once the handshake is done.
type specConn struct {
	nc               io.ReadWriter
	sealing, opening cipher.AEAD
	sent, received   uint64
}

func (s *specNoise) channel(nc io.ReadWriter, client bool) *specConn {
	keys := s.derive(nil, 2)
	c := &specConn{nc: nc, sealing: specGCM(keys[0]), opening: specGCM(keys[1])}
	if !client {
		c.sealing, c.opening = c.opening, c.sealing
	}
	return c
}

func specPreface(keyID []byte) []byte {
	return append([]byte{'S', 'S', 'M', 'N', 1, 0, 0, 0}, keyID...)
}

// specOpening is what a client sends first.
func specOpening(keyID, key []byte) (s *specNoise, own *ecdh.PrivateKey, opening []byte) {
	opening = specPreface(keyID)
	s, own = specStart(opening, key), specMust(ecdh.X25519().GenerateKey(rand.Reader))
	s.ephemeral(own.PublicKey().Bytes())
	opening = append(opening, own.PublicKey().Bytes()...)
	return s, own, append(opening, s.seal()...)
}

// specConnect is a client.
func specConnect(nc io.ReadWriter, keyID, key []byte) *specConn {
	s, own, opening := specOpening(keyID, key)
	specMust(nc.Write(opening))
	answer := specRead(nc, 48)
	s.ephemeral(answer[:32])
	s.exchange(own, answer[:32])
	s.open(answer[32:])
	return s.channel(nc, true)
}

// specAccept is a KDC with one key.
func specAccept(nc io.ReadWriter, key []byte) (c *specConn, keyID []byte) {
	opening := specRead(nc, 64)
	preface, first := opening[:16], opening[16:]
	if string(preface[:8]) != "SSMN\x01\x00\x00\x00" {
		panic("not a preface")
	}
	s := specStart(preface, key)
	s.ephemeral(first[:32])
	s.open(first[32:])
	own := specMust(ecdh.X25519().GenerateKey(rand.Reader))
	public := own.PublicKey().Bytes()
	s.ephemeral(public)
	s.exchange(own, first[:32])
	specMust(nc.Write(append(public, s.seal()...)))
	return s.channel(nc, false), preface[8:]
}

func specRead(r io.Reader, n int) []byte {
	b := make([]byte, n)
	specMust(io.ReadFull(r, b))
	return b
}

func (c *specConn) send(message []byte) {
	record := c.sealing.Seal(nil, specNonce(c.sent), message, nil)
	c.sent++
	specMust(c.nc.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(record))), record...)))
}

func (c *specConn) receive() []byte {
	record := specRead(c.nc, int(binary.BigEndian.Uint16(specRead(c.nc, 2))))
	message := specMust(c.opening.Open(nil, specNonce(c.received), record, nil))
	c.received++
	return message
}
