package control_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// A second implementation of the package doc, in spec_cbor_test.go, spec_messages_test.go, spec_channel_test.go and
// spec_keys_test.go: written from doc.go and the standards it names, without the code. These import nothing of this module
// (TestSpecIsIndependent); spec_agrees_test.go holds the two implementations against one another. What this one needs and
// doc.go does not say is a fault of doc.go.

// CBOR (RFC 8949) as the doc restricts it: uint64, specNegative, []byte, string, bool, nil, []any and specMap.
type (
	specNegative uint64 // -1 - n
	specPair     struct{ key, value any }
	specMap      []specPair
)

// specMalformed is what a receiver refuses.
type specMalformed string

func (e specMalformed) Error() string { return string(e) }

func specDecode(b []byte) (v any, err error) {
	defer func() {
		if fault, ok := recover().(specMalformed); ok {
			err = fault
		}
	}()
	r := &specReader{b}
	v = r.item(1)
	if len(r.b) > 0 {
		return nil, specMalformed("something follows it")
	}
	return v, nil
}

// specReader panics with specMalformed.
type specReader struct{ b []byte }

func (r *specReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		panic(specMalformed("cut short"))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *specReader) head() (major byte, n uint64) {
	first := r.take(1)[0]
	major, n = first>>5, uint64(first&31)
	switch {
	case n < 24:
		return major, n
	case n > 27:
		panic(specMalformed("indefinite or reserved"))
	}
	var wide [8]byte
	size := uint64(1) << (n - 24)
	copy(wide[8-size:], r.take(size))
	return major, binary.BigEndian.Uint64(wide[:])
}

// item reads one item; level counts the arrays and maps around and with it.
func (r *specReader) item(level int) any {
	major, n := r.head()
	switch major {
	case 0:
		return n
	case 1:
		return specNegative(n)
	case 2:
		return r.take(n)
	case 3:
		if text := r.take(n); utf8.Valid(text) {
			return string(text)
		}
		panic(specMalformed("not UTF-8"))
	case 4, 5:
		if level > 8 {
			panic(specMalformed("nested too deep"))
		}
		if major == 4 {
			return r.list(n, level)
		}
		return r.pairs(n, level)
	case 7:
		switch n {
		case 20, 21:
			return n == 21
		case 22:
			return nil
		}
	}
	panic(specMalformed(fmt.Sprintf("major type %d, value %d has no place here", major, n)))
}

func (r *specReader) list(n uint64, level int) any {
	if n > 1024 {
		panic(specMalformed("list too long"))
	}
	list := []any{}
	for range n {
		list = append(list, r.item(level+1))
	}
	return list
}

func (r *specReader) pairs(n uint64, level int) any {
	if n > 64 {
		panic(specMalformed("map too long"))
	}
	m, keys := specMap{}, map[string]bool{}
	for range n {
		p := specPair{key: r.item(level + 1), value: r.item(level + 1)}
		if key := string(specEncode(p.key)); keys[key] {
			panic(specMalformed("duplicate key"))
		} else {
			keys[key] = true
		}
		m = append(m, p)
	}
	return m
}

// specEncode writes the deterministic encoding.
func specEncode(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte{0xf6}
	case bool:
		if v {
			return []byte{0xf5}
		}
		return []byte{0xf4}
	case uint64:
		return specHead(0, v)
	case specNegative:
		return specHead(1, uint64(v))
	case []byte:
		return append(specHead(2, uint64(len(v))), v...)
	case string:
		return append(specHead(3, uint64(len(v))), v...)
	case []any:
		b := specHead(4, uint64(len(v)))
		for _, e := range v {
			b = append(b, specEncode(e)...)
		}
		return b
	case specMap:
		var pairs [][]byte // keys have encodings none of which begins another, so whole pairs sort as their keys do
		for _, p := range v {
			pairs = append(pairs, append(specEncode(p.key), specEncode(p.value)...))
		}
		slices.SortFunc(pairs, bytes.Compare)
		return append(specHead(5, uint64(len(v))), bytes.Join(pairs, nil)...)
	}
	panic(fmt.Sprintf("%T has no encoding", v))
}

func specHead(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 1<<8:
		return []byte{major<<5 | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, n)
}
