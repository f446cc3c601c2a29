package control

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

// renderings are the ways in which a value ends up in a log.
func renderings(v any) []string {
	var log, structured bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&structured, nil)).Info("x", "v", v)
	out := []string{log.String(), structured.String()}
	if b, err := json.Marshal(v); err == nil {
		out = append(out, string(b))
	}
	// Not %p, for which fmt asks no method.
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%#x", "%08b", "%t"} {
		out = append(out, fmt.Sprintf(verb, v))
	}
	return out
}

// spillsNumbers catches a byte slice printed as numbers.
func spillsNumbers(text string, key []byte) bool {
	for i := range len(key) - 4 {
		part := key[i : i+4]
		for _, s := range []string{
			strings.Trim(fmt.Sprint(part), "[]"), strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"),
			strings.Trim(fmt.Sprintf("%08b", part), "[]"), fmt.Sprintf("% x", part),
		} {
			if strings.Contains(text, s) {
				return true
			}
		}
	}
	return false
}

func TestSecretsDoNotPrint(t *testing.T) {
	identity := rotatingFixture(t)
	x := exchange(t, Want{Peer: "b"}, nil)
	keys := x.keysB
	var private []byte
	if p, err := x.r.private.Bytes(); err != nil {
		t.Fatal(err)
	} else {
		private = p
	}
	k := filled(32, 0x10)
	offer, grant := everyMessage()[5].(*KeyOffer), everyMessage()[7].(*KeyGrant)
	enrol, rotate := &EnrolGrant{Name: "a", Key: k}, &RotateKey{Key: k}
	for name, c := range map[string]struct {
		v       any
		secrets [][]byte
	}{
		"Identity":       {identity, [][]byte{identity.Key.Bytes(), identity.Next.Key.Bytes()}},
		"*Identity":      {&identity, [][]byte{identity.Key.Bytes(), identity.Next.Key.Bytes()}},
		"Token":          {Token(identity), [][]byte{identity.Key.Bytes()}},
		"Keys":           {*keys, [][]byte{keys.Seal.Bytes(), keys.Open.Bytes()}},
		"*Keys":          {keys, [][]byte{keys.Seal.Bytes(), keys.Open.Bytes()}},
		"Requester":      {*x.r, [][]byte{private}},
		"*Requester":     {x.r, [][]byte{private}},
		"directionKeys":  {directionKeys{keys.Open, keys.Seal}, [][]byte{keys.Seal.Bytes(), keys.Open.Bytes()}},
		"KeyOffer":       {*offer, [][]byte{k}},
		"*KeyOffer":      {offer, [][]byte{k}},
		"*KeyGrant":      {grant, [][]byte{k}},
		"KeyGrant":       {*grant, [][]byte{k}},
		"*EnrolGrant":    {enrol, [][]byte{k}},
		"EnrolGrant":     {*enrol, [][]byte{k}},
		"*RotateKey":     {rotate, [][]byte{k}},
		"RotateKey":      {*rotate, [][]byte{k}},
		"Envelope":       {Envelope{ID: 1, Message: grant}, [][]byte{k}},
		"KeyBytes":       {KeyBytes(k), [][]byte{k}},
		"list of grants": {[]any{grant, enrol}, [][]byte{k}},
	} {
		for i, text := range renderings(c.v) {
			for _, s := range c.secrets {
				if spills(text, s) || spillsNumbers(text, s) {
					t.Errorf("%s shows its key in rendering %d", name, i)
				}
			}
		}
	}
}

// The search itself finds what it is to find.
func TestSpillsIsNotBlind(t *testing.T) {
	k := filled(32, 0xa5)
	found := 0
	for _, text := range renderings(k) {
		if spills(text, k) || spillsNumbers(text, k) {
			found++
		}
	}
	if found < 10 || !spills(hex.EncodeToString(k[4:20]), k) {
		t.Errorf("found a bare key in %d renderings", found)
	}
}

// Every byte slice in a message is either public or a KeyBytes: a new field has to say which.
func TestByteFieldsAreClassified(t *testing.T) {
	public := map[string]bool{"KeyRequest.Pub": true, "KeyOffer.Pub": true, "KeyAccept.Enc": true, "KeyGrant.Enc": true}
	keys := 0
	for _, m := range everyMessage() {
		typ := reflect.TypeOf(m).Elem()
		for i := range typ.NumField() {
			f := typ.Field(i)
			switch f.Type {
			case reflect.TypeFor[KeyBytes]():
				keys++
			case reflect.TypeFor[[]byte]():
				if !public[typ.Name()+"."+f.Name] {
					t.Errorf("%s.%s is bytes that could be printed", typ.Name(), f.Name)
				}
			}
		}
	}
	if keys != 4 {
		t.Errorf("%d fields hold keys, want 4", keys)
	}
}

func TestKeyBytesOnTheWire(t *testing.T) {
	k := filled(32, 0x10)
	typed, err1 := encode(KeyBytes(k), usualMessage)
	plain, err2 := encode(k, usualMessage)
	if err1 != nil || err2 != nil || !bytes.Equal(typed, plain) {
		t.Errorf("%x, %v; %x, %v", typed, err1, plain, err2)
	}
}

// A connection that has ended may be kept, in a timer or a list; its keys are not.
func TestEndedConnectionKeepsNoKey(t *testing.T) {
	client, server := pair(t)
	client.Close()
	for _, c := range []*Conn{client, server} {
		for range 2 {
			if _, err := c.Receive(); err == nil || err != c.Err() {
				t.Errorf("received after the end: %v, not %v", err, c.Err())
			}
		}
		if err := c.Send(0, &Ping{}); err != c.Err() {
			t.Errorf("sent after the end: %v, not %v", err, c.Err())
		}
		if c.opening != nil || c.sealing != nil {
			t.Error("the keys of a connection that has ended are kept")
		}
	}
}
