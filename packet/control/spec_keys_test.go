package control_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// The key schedule, tokens and identities.

// specTranscript is the array that both sides hash: what they were told, each part as it stands in the messages.
func specTranscript(suite, session, a, b, na, pub, enc, order, terms any) []byte {
	return specEncode([]any{uint64(1), suite, session, a, b, na, pub, enc, order, terms})
}

// specSchedule are a session's two keys.
func specSchedule(k, x, transcript []byte) (toB, toA []byte) {
	prk := specMust(hkdf.Extract(sha256.New, x, k))
	hash := sha256.Sum256(transcript)
	expand := func(label string) []byte { return specMust(hkdf.Expand(sha256.New, prk, label+string(hash[:]), 32)) }
	return expand("ssmnet/1 key to responder"), expand("ssmnet/1 key to requester")
}

// specEncapsulate is the responder's X and what it answers.
func specEncapsulate(pub []byte) (enc, x []byte) {
	to := specMust(hpke.MLKEM768X25519().NewPublicKey(pub))
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte("ssmnet/1 session"))
	if err != nil {
		panic(err)
	}
	return enc, specMust(sender.Export("ssmnet/1 export", 32))
}

// specDecapsulate is the requester's X.
func specDecapsulate(private hpke.PrivateKey, enc []byte) []byte {
	from := specMust(hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ExportOnly(), []byte("ssmnet/1 session")))
	return specMust(from.Export("ssmnet/1 export", 32))
}

// specIdentity is what a token or an identity says. next is empty where there is none.
type specIdentity struct {
	name            string
	keyID, key      []byte
	nextID, nextKey []byte
	kdcs            []string
}

var errSpecIdentity = errors.New("not a token, not an identity")

func (i specIdentity) check() (specIdentity, error) {
	right := specName.MatchString(i.name) && len(i.keyID) == 8 && len(i.key) == 32 && len(i.kdcs) >= 1 && len(i.kdcs) <= 8
	for _, a := range i.kdcs {
		right = right && specHostPort(a)
	}
	if len(i.nextID)+len(i.nextKey) > 0 {
		right = right && len(i.nextID) == 8 && len(i.nextKey) == 32 && !bytes.Equal(i.nextID, make([]byte, 8)) &&
			!bytes.Equal(i.nextID, i.keyID) && !bytes.Equal(i.nextKey, i.key)
	}
	if !right {
		return specIdentity{}, errSpecIdentity
	}
	return i, nil
}

func (i specIdentity) token() string {
	kdcs := []any{}
	for _, a := range i.kdcs {
		kdcs = append(kdcs, a)
	}
	b := specEncode([]any{i.name, i.keyID, i.key, kdcs})
	sum := sha256.Sum256(b)
	return "ssmnet-token-" + base64.RawURLEncoding.EncodeToString(append(b, sum[:4]...))
}

func specToken(text string) (i specIdentity, err error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), "ssmnet-token-")
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(b) < 4 || len(text) > 64<<10 {
		return i, errSpecIdentity
	}
	body, sum := b[:len(b)-4], sha256.Sum256(b[:len(b)-4])
	v, err := specDecode(body)
	fields, isList := v.([]any)
	if err != nil || !isList || len(fields) != 4 || !bytes.Equal(b[len(b)-4:], sum[:4]) {
		return i, errSpecIdentity
	}
	none := specTables{}
	for n, typ := range []string{"text", "b8", "bytes", "[]text"} {
		if fields[n], err = none.value(typ, fields[n], ""); err != nil {
			return i, errSpecIdentity
		}
	}
	i = specIdentity{name: fields[0].(string), keyID: fields[1].([]byte), key: fields[2].([]byte)}
	for _, a := range fields[3].([]any) {
		i.kdcs = append(i.kdcs, a.(string))
	}
	return i.check()
}

func specReadIdentity(text []byte) (i specIdentity, err error) {
	type key struct {
		KeyID string `json:"key_id"`
		Key   []byte `json:"key"`
	}
	var f struct {
		Schema string `json:"schema"`
		Name   string `json:"name"`
		key
		KDCs []string `json:"kdcs"`
		Next *key     `json:"next"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&f) != nil || f.Schema != "ssmnet.identity/v1" || len(text) > 64<<10 {
		return i, errSpecIdentity
	}
	if _, err := d.Token(); err != io.EOF {
		return i, errSpecIdentity
	}
	id, err := hex.DecodeString(f.KeyID)
	i = specIdentity{name: f.Name, keyID: id, key: f.Key, kdcs: f.KDCs}
	if f.Next != nil && err == nil {
		i.nextID, err = hex.DecodeString(f.Next.KeyID)
		if i.nextKey = f.Next.Key; len(i.nextID)+len(i.nextKey) == 0 {
			return specIdentity{}, errSpecIdentity
		}
	}
	if err != nil {
		return specIdentity{}, errSpecIdentity
	}
	return i.check()
}

// specDigestOf names a list of selectors.
func specDigestOf(selectors any) []byte {
	sum := sha256.Sum256(specEncode(selectors))
	return sum[:16]
}
