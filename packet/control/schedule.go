package control

// The key schedule (package doc, "Keys"): X from the ephemeral, then the two keys from K, X and the transcript.

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"

	"ssmnet/packet"
	"ssmnet/packet/secret"
)

// Labels.
const (
	labelInfo   = "ssmnet/1 session"
	labelExport = "ssmnet/1 export"
	labelToB    = "ssmnet/1 key to responder"
	labelToA    = "ssmnet/1 key to requester"
)

// Lengths of the KEM's values, in bytes.
const (
	PubLen = 1216
	EncLen = 1120
)

var (
	kem        = hpke.MLKEM768X25519()
	kdf        = hpke.HKDFSHA256()
	exportOnly = hpke.ExportOnly()
)

// encapsulate makes X and enc for the requester's ephemeral. Call it inside secret.Do.
func encapsulate(pub []byte) (x, enc []byte, err error) {
	to, err := kem.NewPublicKey(pub)
	if err != nil {
		return nil, nil, err
	}
	enc, sender, err := hpke.NewSender(to, kdf, exportOnly, []byte(labelInfo))
	if err != nil {
		return nil, nil, err
	}
	x, err = sender.Export(labelExport, secret.Size)
	return x, bytes.Clone(enc), err // enc is kept, and nothing that it may be a part of
}

// decapsulate makes the same X of enc. Call it inside secret.Do.
func decapsulate(enc []byte, private hpke.PrivateKey) (x []byte, err error) {
	from, err := hpke.NewRecipient(enc, private, kdf, exportOnly, []byte(labelInfo))
	if err != nil {
		return nil, err
	}
	return from.Export(labelExport, secret.Size)
}

// transcript is everything both sides were told about a session but K and the endpoints.
type transcript struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Suite   packet.Suite
	Session SessionID
	A, B    Party
	Na      Nonce
	Pub     []byte
	Enc     []byte
	Order   uint64
	Terms   Terms
}

func (t *transcript) hash() ([]byte, error) {
	b, err := encoding.Marshal(t)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(b)
	return h[:], nil
}

// directionKeys are a session's two keys: the one that seals frames to the responder, and the one to the requester.
type directionKeys struct{ toB, toA secret.Key }

// schedule derives the directional keys from K, the KEM's export X and the transcript. Call it inside secret.Do.
func schedule(k, x []byte, t *transcript) (keys directionKeys, err error) {
	h, err := t.hash()
	if err != nil {
		return keys, err
	}
	prk, err := hkdf.Extract(sha256.New, x, k)
	if err != nil {
		return keys, err
	}
	defer clear(prk)
	if keys.toB, err = expand(prk, labelToB, h); err != nil {
		return keys, err
	}
	keys.toA, err = expand(prk, labelToA, h)
	return keys, err
}

func expand(prk []byte, label string, hash []byte) (secret.Key, error) {
	b, err := hkdf.Expand(sha256.New, prk, label+string(hash), secret.Size)
	if err != nil {
		return secret.Key{}, err
	}
	defer clear(b)
	return secret.KeyFrom(b)
}
