package control

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

const (
	tokenPrefix = "ssmnet-token-"
	checksumLen = 4
)

// errToken: the text is not a whole token.
var errToken = errors.New("not a whole enrolment token: copy it again, from " + tokenPrefix + " to its end")

// Token is a one-time enrolment token: an identity whose key only redeems it. In text it is
//
//	"ssmnet-token-" base64url( CBOR [name, key id, key, KDCs] | first 4 bytes of its SHA-256 )
//
// so that a copying error is told apart from a token that has died.
type Token Identity

type tokenWire struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	KeyID KeyID
	Key   []byte
	KDCs  []string
}

// Reveal is the token in text, for the one person who carries it.
func (t Token) Reveal() (string, error) {
	b, err := encode(tokenWire{Name: t.Name, KeyID: t.KeyID, Key: t.Key.Bytes(), KDCs: t.KDCs}, usualMessage)
	if err != nil {
		return "", err
	}
	defer clear(b)
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:checksumLen]...)), nil
}

// ParseToken reads what Reveal wrote.
func ParseToken(s string) (Token, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok || len(text) > MaxIdentity {
		return Token{}, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < checksumLen {
		return Token{}, errToken
	}
	defer clear(b)
	body, sum := b[:len(b)-checksumLen], b[len(b)-checksumLen:]
	if want := sha256.Sum256(body); string(sum) != string(want[:checksumLen]) {
		return Token{}, errToken
	}
	var w tokenWire
	if decoding.Unmarshal(body, &w) != nil {
		return Token{}, errToken
	}
	defer clear(w.Key)
	id, err := NewIdentity(w.Name, w.KeyID, w.Key, w.KDCs)
	if err != nil {
		return Token{}, errToken
	}
	return Token(id), nil
}
