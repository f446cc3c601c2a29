package control

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"ssmnet/packet/secret"
)

const (
	identitySchema = "ssmnet.identity/v1"
	// MaxIdentity bounds an identity file or token, in bytes.
	MaxIdentity = 64 << 10
)

// Identity is who an SSM is towards the KDC: its name, its permanent key, and where the KDCs are.
type Identity struct {
	Name  string
	KeyID KeyID
	Key   secret.Key
	KDCs  []string     // HOST:PORT
	Next  PermanentKey // that is to replace Key; zero where no rotation is under way
}

// PermanentKey is a permanent key and its id.
type PermanentKey struct {
	ID  KeyID
	Key secret.Key
}

// IsZero says that there is none.
func (k PermanentKey) IsZero() bool { return k.Key.IsZero() }

// Copy is the same key in memory of its own.
func (k PermanentKey) Copy() PermanentKey {
	if !k.IsZero() {
		k.Key, _ = secret.KeyFrom(k.Key.Bytes()) // which has the length of a key
	}
	return k
}

// Destroy ends the identity's keys.
func (id *Identity) Destroy() {
	id.Key.Destroy()
	id.Next.Key.Destroy()
}

// identityFile is the identity as it stands in its file. Keys are base64.
type identityFile struct {
	Schema string   `json:"schema"`
	Name   string   `json:"name"`
	KeyID  KeyID    `json:"key_id"`
	Key    []byte   `json:"key"`
	Next   *nextKey `json:"next,omitempty"`
	KDCs   []string `json:"kdcs"`
}

type nextKey struct {
	KeyID KeyID  `json:"key_id"`
	Key   []byte `json:"key"`
}

// Marshal gives the contents of an identity file. The caller clears them.
func (id Identity) Marshal() ([]byte, error) {
	f := identityFile{Schema: identitySchema, Name: id.Name, KeyID: id.KeyID, KDCs: id.KDCs}
	keys := []secret.Key{id.Key}
	if !id.Next.IsZero() {
		f.Next, keys = &nextKey{KeyID: id.Next.ID}, append(keys, id.Next.Key)
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	// The keys go in by hand: package json encodes into memory that it keeps.
	out := make([]byte, 0, len(b)+len(keys)*base64.StdEncoding.EncodedLen(secret.Size)+1)
	for _, key := range keys {
		before, after, _ := bytes.Cut(b, []byte(noKey))
		out = append(append(out, before...), keyBegins...)
		out = append(base64.StdEncoding.AppendEncode(out, key.Bytes()), '"')
		b = after
	}
	return append(append(out, b...), '\n'), nil
}

// A key in an identity's file, where there is none yet and where it begins.
const (
	noKey     = `"key": null`
	keyBegins = `"key": "`
)

// ParseIdentity reads an identity file. Its errors say where, and never what stands there.
func ParseIdentity(b []byte) (id Identity, err error) {
	secret.Do(func() { id, err = parseIdentity(b) }) // package json copies what it reads
	return id, err
}

func parseIdentity(b []byte) (Identity, error) {
	if len(b) > MaxIdentity {
		return Identity{}, fmt.Errorf("malformed identity: longer than %d bytes", MaxIdentity)
	}
	var f identityFile
	defer func() { f.clear() }()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Identity{}, fmt.Errorf("malformed identity: %s", jsonFault(b, err))
	}
	if _, err := d.Token(); err != io.EOF {
		return Identity{}, errors.New("malformed identity: something follows its closing brace")
	}
	if f.Schema != identitySchema {
		return Identity{}, fmt.Errorf("malformed identity: schema is not %q", identitySchema)
	}
	id, err := NewIdentity(f.Name, f.KeyID, f.Key, f.KDCs)
	if err != nil || f.Next == nil {
		return id, err
	}
	if id.Next, err = f.Next.parse(id); err != nil {
		id.Destroy()
		return Identity{}, err
	}
	return id, nil
}

func (f *identityFile) clear() {
	clear(f.Key)
	if f.Next != nil {
		clear(f.Next.Key)
	}
}

// parse checks the next key of an identity: one that is the current one again would be forgotten with it.
func (n *nextKey) parse(id Identity) (PermanentKey, error) {
	key, err := secret.KeyFrom(n.Key)
	switch {
	case err != nil:
		return PermanentKey{}, errors.New("malformed identity: its next key is not 32 bytes")
	case n.KeyID == KeyID{} || n.KeyID == id.KeyID || key.Equal(id.Key):
		key.Destroy()
		return PermanentKey{}, errors.New("malformed identity: its next key is not another one")
	}
	return PermanentKey{n.KeyID, key}, nil
}

// jsonFault says where the fault is; the decoder's own text could quote the key.
func jsonFault(b []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return "syntax error at " + position(b, syntax.Offset)
	case errors.As(err, &kind):
		if kind.Field == "" {
			return "it is not a JSON object, at " + position(b, kind.Offset)
		}
		return fmt.Sprintf("field %q is not %s at %s", kind.Field, shape(kind.Type), position(b, kind.Offset))
	case strings.Contains(err.Error(), "unknown field"):
		return "it has an unknown field"
	}
	return "it ends early or a value does not decode"
}

// shape is what a field must be, in the words of whoever reads the file.
func shape(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.String:
		return "a string"
	case t == reflect.TypeFor[[]string]():
		return "a list of strings"
	}
	return "encoded text" // a key or its id
}

func position(b []byte, offset int64) string {
	before := b[:min(int(offset), len(b))]
	line := bytes.Count(before, []byte("\n")) + 1
	return fmt.Sprintf("line %d column %d", line, len(before)-bytes.LastIndexByte(before, '\n')-1)
}

// NewIdentity checks the parts of an identity. It copies key, which the caller still owns and should clear.
func NewIdentity(name string, id KeyID, key []byte, kdcs []string) (Identity, error) {
	if !ValidName(name) {
		return Identity{}, errors.New("malformed identity: its name cannot be a peer's")
	}
	if len(kdcs) == 0 || len(kdcs) > MaxAddresses {
		return Identity{}, fmt.Errorf("malformed identity: it lists %d KDCs, want 1 to %d", len(kdcs), MaxAddresses)
	}
	for _, a := range kdcs {
		if err := CheckAddress(a); err != nil {
			return Identity{}, fmt.Errorf("malformed identity: %w", err)
		}
	}
	k, err := secret.KeyFrom(key)
	if err != nil {
		return Identity{}, errors.New("malformed identity: its key is not 32 bytes")
	}
	return Identity{Name: name, KeyID: id, Key: k, KDCs: kdcs}, nil
}
